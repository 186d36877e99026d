"""What the results of a run depend on besides its configuration: code, versions and hardware."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def environment(device: torch.device) -> dict[str, Any]:
    """The record of the current environment."""
    return {
        "code": code_version(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),  # settings of the allocator, on Linux
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def code_version() -> str:
    """The commit of the checkout, with "+changes" if files differ; else the installed version."""
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")  # an environment may lie within another checkout
        changed = _git("status", "--porcelain", "--", ".", "../train.py")
        return f"{_git('rev-parse', 'HEAD')[:12]}{'+changes' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return _version("cifar-tricks-zoo") or "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
