"""Grids of runs: what a file asks for, and how it is carried out."""
