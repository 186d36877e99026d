"""Train a model: `python train.py --model resnet20 --epochs 30`; `--help` lists every setting."""

import sys

from lib.__main__ import console, main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(console())
