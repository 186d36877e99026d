"""`python -m scripts.table FOLDER --baseline NAME`: a table of the runs below a folder, from their records.

A setting is a folder that holds a folder a seed, as runs are stored.
"""

import argparse
import sys
from pathlib import Path

from lib.errors import exit_code
from lib.report.table import read, table


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="runs, or results/<something>")
    parser.add_argument("--baseline", required=True, help="the setting that the others are compared with")
    options = parser.parse_args(argv)
    return exit_code(lambda: print(table(read(options.folder), options.baseline), end=""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
