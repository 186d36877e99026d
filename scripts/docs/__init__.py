"""Generators of documentation: `python -m scripts.docs` renews the generated parts."""
