"""Data sets by name: each is one function that returns uint8 images, in memory or read from files."""
