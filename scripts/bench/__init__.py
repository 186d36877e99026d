"""Benchmarks: `python -m scripts.bench` runs all of them."""
