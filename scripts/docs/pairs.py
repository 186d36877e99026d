"""Which tricks can be combined: every pair is built and trained for a step, or refused with a reason."""

import json
import sys
from dataclasses import asdict, dataclass
from itertools import combinations

from scripts.docs.page import ROOT
from scripts.docs.trials import HOST, SMALL, Settings, are_alternatives, refusal, tricks

FILE = ROOT / "docs" / "tricks" / "pairs.json"
# Long enough for the first cycle of schedules that have several.
TRIAL = SMALL | HOST | {"train.epochs": 12}


@dataclass(frozen=True)
class Pairs:
    """The outcome of trying all pairs."""

    tried: list[str]  # the tricks, as `<section>.<name>`
    alone: dict[str, str]  # tricks refused even alone, with the reason
    refused: list[list[str]]  # two tricks and the reason

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that were tried."""
        return pairs_of([trick for trick in self.tried if trick not in self.alone])


def pairs_of(names: list[str]) -> list[tuple[str, str]]:
    """All pairs of names, without two entries of a section that selects one."""
    return [pair for pair in combinations(names, 2) if not are_alternatives(*pair)]


def together(*names: str) -> str | None:
    """The reason why the tricks are refused together; None if they train a step."""
    settings: Settings = dict(TRIAL)
    for name in names:
        settings |= tricks()[name]
    return refusal(settings)


def try_all(known: Pairs | None = None) -> Pairs:
    """Try every trick alone, and every pair of those that are not refused alone.

    Args:
        known: an earlier outcome. What trained then is not tried again.
    """
    names = list(tricks())
    works: set[tuple[str, ...]] = set()
    if known:
        refused = {(one, other) for one, other, _ in known.refused}
        works = {(name,) for name in known.tried if name not in known.alone} | (set(known.pairs) - refused)
    alone = {name: reason for name in names if (name,) not in works and (reason := together(name))}
    left = [pair for pair in Pairs(names, alone, []).pairs if pair not in works]
    found = []
    for number, pair in enumerate(left, start=1):
        if reason := together(*pair):
            found.append([*pair, reason])
        if number % 100 == 0:
            print(f"{number} of {len(left)} pairs, {len(found)} refused", file=sys.stderr, flush=True)
    return Pairs(names, alone, found)


def load() -> Pairs:
    """The committed outcome."""
    return Pairs(**json.loads(FILE.read_text()))


def dump(pairs: Pairs) -> str:
    return json.dumps(asdict(pairs), indent=1) + "\n"
