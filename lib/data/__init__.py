"""Datasets by name: each is one function that gives uint8 images, held whole in memory."""
