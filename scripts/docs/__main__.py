"""`python -m scripts.docs [--check]`: renew what stands between markers in the README, docs/ and results/.

    <!-- python -m scripts.table results/ablations/tricks --baseline none -->
    what the command prints
    <!-- end -->

    <!-- python -m scripts.plot forest results/ablations/tricks --baseline none -o docs/tricks.svg -->
    ![...](...): the text is kept, the file is written
    <!-- end 5f0c6f2e -->

With --check nothing is written, and the exit code is 1 where a block is stale. Another matplotlib draws the
same picture in other bytes, so what goes to a file is stale where the records that it was made from have
changed: the digits of the end tell.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import re
import shlex
import sys
from pathlib import Path

from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^(?P<begin><!-- python -m (?P<command>scripts\.\w+ .*?) -->\n)(?P<text>.*?)"
    r"(?P<end><!-- end ?(?P<digest>\w*) -->)",
    re.DOTALL | re.MULTILINE,
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a block is stale")
    return exit_code(renew, parser.parse_args(argv).check)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("results/**/*.md"))]


def renew(check: bool) -> int:
    stale = 0
    for page in pages():
        old = page.read_text()
        new = BLOCK.sub(lambda block: renewed(block, write=not check), old)
        if new != old:
            stale += 1
            print(f"{'stale' if check else 'renewed'}: {page.relative_to(ROOT)}")
            if not check:
                write_atomic(page, new)
    if stale and check:
        print("python -m scripts.docs renews them")
    return 1 if stale and check else 0


def renewed(block: re.Match, write: bool) -> str:
    """The block as it should be; a file is written only where asked for."""
    script, *arguments = shlex.split(block["command"])
    if "-o" in arguments:
        digest = fingerprint(block["command"], arguments)
        file = ROOT / arguments[arguments.index("-o") + 1]
        if write and (digest != block["digest"] or not file.exists()):
            run(script, arguments)
        found = digest if file.exists() else "missing"
        return f"{block['begin']}{block['text']}<!-- end {found} -->"
    return f"{block['begin']}\n{run(script, arguments).strip()}\n\n{block['end']}"


def run(script: str, arguments: list[str]) -> str:
    """What a script prints, run in the root of the repository."""
    printed = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
        code = importlib.import_module(script).main(arguments)
    if code:
        raise BadInput(f"python -m {script} {shlex.join(arguments)} ended with exit code {code}")
    return printed.getvalue()


def fingerprint(command: str, arguments: list[str]) -> str:
    """Of the command, and of the records in the folders that it names."""
    digest = hashlib.sha256(command.encode())
    folders = [ROOT / word for word in arguments if (ROOT / word).is_dir()]
    for name in ("result.json", "metrics.jsonl"):
        for path in sorted(path for folder in folders for path in folder.glob(f"**/{name}")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
