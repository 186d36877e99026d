"""Vocabulary that every other package uses: errors, fields, registries, randomness, batches, processes."""
