"""Blocks of documentation that are the output of a command, between markers in Markdown:

    <!-- python -m scripts.table results/ablations/tricks --baseline none -->
    the output of the command
    <!-- end -->

    <!-- python -m scripts.plot forest results/ablations/tricks --baseline none -o docs/tricks.svg -->
    ![...](...): the text is kept, the file is written
    <!-- end 5f0c6f2e -->

Other versions of matplotlib write other bytes for the same plot, so a plot is out of date when its records
change: the end marker holds their hash.
"""

import contextlib
import hashlib
import importlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lib.core.errors import BadInput

BLOCK = re.compile(
    r"^(?P<begin><!-- python -m (?P<command>scripts\.[\w.]+ .*?) -->\n)(?P<text>.*?)"
    r"(?P<end><!-- end ?(?P<digest>\w*) -->)",
    re.DOTALL | re.MULTILINE,
)


def outdated(root: Path, write: bool) -> Iterator[tuple[Path, str]]:
    """The pages below `root` with a block that is out of date, and their new text.

    Args:
        write: write the files of plots that are out of date; the pages themselves are never written.
    Raises:
        BadInput: a command fails.
    """
    for page in pages(root):
        old = page.read_text()
        new = BLOCK.sub(partial(_renewed, root, write), old)
        if new != old:
            yield page, new


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted(root.glob("docs/**/*.md")), *sorted(root.glob("results/**/*.md"))]


def _renewed(root: Path, write: bool, block: re.Match) -> str:
    script, *arguments = shlex.split(block["command"])
    if "-o" not in arguments:
        return f"{block['begin']}\n{_output(root, script, arguments).strip()}\n\n{block['end']}"
    digest = _digest(root, block["command"], arguments)
    file = root / arguments[arguments.index("-o") + 1]
    if write and (digest != block["digest"] or not file.exists()):
        _output(root, script, arguments)
    return f"{block['begin']}{block['text']}<!-- end {digest if file.exists() else 'missing'} -->"


def _output(root: Path, script: str, arguments: list[str]) -> str:
    """What a script prints when it is run in `root`."""
    printed = io.StringIO()
    with contextlib.chdir(root), contextlib.redirect_stdout(printed):
        code = importlib.import_module(script).main(arguments)
    if code:
        raise BadInput(f"python -m {script} {shlex.join(arguments)} ended with exit code {code}")
    return printed.getvalue()


def _digest(root: Path, command: str, arguments: list[str]) -> str:
    """A hash of the command and of the records in the folders that it names."""
    digest = hashlib.sha256(command.encode())
    folders = [root / word for word in arguments if (root / word).is_dir()]
    for name in ("result.json", "metrics.jsonl"):
        for path in sorted(path for folder in folders for path in folder.glob(f"**/{name}")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
