"""Grids of runs: the file format, and the back ends that run them."""
