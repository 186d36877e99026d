"""One training step, one evaluation, and what they report."""
