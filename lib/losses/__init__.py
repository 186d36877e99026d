"""Losses: `(logits, batch)` or `(logits, y)` to one value for each sample, so that terms can be added."""
