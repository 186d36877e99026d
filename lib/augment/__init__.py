"""Augmentations: maps of a batch, computed on the device that holds it, with a draw for each sample."""
