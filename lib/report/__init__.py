"""From run records to pictures and tables."""
