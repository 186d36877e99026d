"""Comparison of nested states bit for bit."""

import numpy as np
import torch


def bits(value):
    """A tree in which tensors and arrays are their bytes, so that == compares bits."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.shape, value.contiguous().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list | tuple) else value
