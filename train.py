"""Train a model: `python train.py --model resnet20 --epochs 30`; `--help` lists every setting."""

import sys

from lib.core.errors import require_packages

require_packages()
from lib.__main__ import console, main  # noqa: E402 (it needs the packages)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(console())
