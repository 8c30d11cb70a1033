"""A stand-in for workers of Alluxio 3.x.  It shares no code with prelux; see README.md."""
