"""Servers that the tests, the demo and the benchmarks talk to. See README.md in this folder."""
