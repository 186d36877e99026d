"""Architectures, one file per family; every model maps images (B, C, H, W) to logits (B, K)."""
