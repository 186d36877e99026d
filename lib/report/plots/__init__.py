"""Plots from run records, as matplotlib figures: one module for each kind."""
