"""Programs that accompany train.py; benchmarks and generators of documentation have folders."""
