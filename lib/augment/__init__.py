"""Augmentations: maps of a batch, batched on the data's device, with a draw of their own for every sample."""
