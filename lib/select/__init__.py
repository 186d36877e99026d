"""Selections: maps of the finished batch, with a state, that keep the images a step learns from."""
