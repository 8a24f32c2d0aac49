"""Benchmarks: what measuring costs, compared with the bare application in the same run."""
