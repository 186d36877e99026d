"""Losses: `(logits, batch) -> (B,)`, one value a sample, so that terms add and the step alone reduces."""
