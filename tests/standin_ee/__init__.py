"""A stand-in for Alluxio Enterprise AI 3.7, of our own and not a real one: README.md."""
