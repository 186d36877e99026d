"""Programs beside train.py: benchmarks and tools."""
