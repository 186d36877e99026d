"""docs/benchmarks.md: a section for each benchmark, put there by its `--write`."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from lib.core.files import write_atomic
from lib.store.environment import environment

DOC = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def machine(device: torch.device) -> str:
    """What a benchmark was made on, in words."""
    known = environment(device)
    name = f"{known['cpu']}, {known['cores']} cores" if known["device"] == "cpu" else known["device"]
    kept = f", GLIBC_TUNABLES={known['glibc_tunables']}" if known["glibc_tunables"] else ""
    return f"{name}, torch {known['packages']['torch']} with {known['threads']} threads{kept}"


def command() -> str:
    """What makes a benchmark's section, as a user would type it again."""
    return shlex.join(["python", "-m", f"scripts.bench.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def publish(text: str, numbers: dict[str, Any], device: torch.device, keep: bool) -> None:
    """Print a section, then its numbers and the machine as a line of JSON; `keep` puts it in the page too."""
    print(text)
    print(json.dumps({"benchmark": command(), **numbers, "environment": environment(device)}))
    if keep:
        write(text)


def section(title: str) -> str:
    """What the page holds under a title, such as `## Tricks`, title included; "" if nothing."""
    return _parts(title)[1]


def write(text: str) -> None:
    """Put a section, whose first line is its title, in the page; in the place of an older one."""
    before, _, after = _parts(text.partition("\n")[0])
    parts = [part.strip() for part in (before, text, after)]
    write_atomic(DOC, "\n\n".join(part for part in parts if part) + "\n")


def _parts(title: str) -> tuple[str, str, str]:
    """The page before the section, the section, and the page behind it."""
    text = DOC.read_text() if DOC.exists() else "# Benchmarks\n"
    found = re.search(rf"^{re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return (text[: found.start()], found[0], text[found.end() :]) if found else (text, "", "")
