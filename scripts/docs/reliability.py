"""`python -m scripts.docs.reliability RECORD`: how often the slow tests of faults and of any input ended how.

The record is the file of `pytest --trials-record`, which appends a line for each test.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path


def main(argv: list[str]) -> int:
    newest = {}
    for line in Path(argv[0]).read_text().splitlines():
        row = json.loads(line)
        newest[row["test"]] = row["endings"]
    print("| test | tried | endings |\n|---|---:|---|")
    for name, endings in _by_function(newest).items():
        counts = ", ".join(f"{ending}: {count:,}" for ending, count in endings.most_common())
        print(f"| {name} | {endings.total():,} | {counts} |")
    return 0


def _by_function(endings: dict[str, dict[str, int]]) -> dict[str, Counter]:
    """The sums over the parameters of each test, by its name as a sentence."""
    sums = defaultdict(Counter)
    for test in sorted(endings):
        name = re.search(r"::test_(\w+)", test)[1].replace("_", " ")
        sums[name].update(endings[test])
    return sums


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
