"""`python -m scripts.keep RUNS FOLDER`: copy the records of complete runs, without checkpoints and figures.

FOLDER gets the same structure as RUNS; docs/records.md describes records.
"""

import shutil
import sys
from pathlib import Path

from lib.core.errors import BadInput, exit_code
from lib.report.records import read_records
from lib.store.run_folder import COMPLETE

from .arguments import Parser, file_path

FILES = ("config.yaml", "config_diff.yaml", "metrics.jsonl", "result.json")


def main(argv: list[str]) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=file_path, help="a folder with runs")
    parser.add_argument("folder", type=file_path, help="destination of the records")
    options = parser.parse_args(argv)
    return exit_code(keep, options.runs, options.folder)


def keep(runs: Path, folder: Path) -> None:
    records = read_records([runs])
    for path, reason in records.left_out:
        print(f"left out: {path}: {reason}", file=sys.stderr)
    complete = [run for run in records.runs if run.status in COMPLETE]
    for run in complete:
        target = folder / run.folder.relative_to(runs)
        if target.resolve() == run.folder.resolve():
            raise BadInput(f"{target} is the run itself; give another folder")
        existing = target / "result.json"
        if existing.exists() and existing.read_bytes() != (run.folder / "result.json").read_bytes():
            raise BadInput(f"{target} contains another run; give another folder or move it away")
    for run in complete:
        target = folder / run.folder.relative_to(runs)
        target.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(run.folder / name, target / name)
    print(
        f"kept {len(complete)} records in {folder}; {len(records.runs) - len(complete)} runs are not complete"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
