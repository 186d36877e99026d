"""Which tricks go together: every pair is composed and built, then trains a step, or is refused and why."""

import json
import sys
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from lib.core.files import write_atomic
from scripts.trials import HOST, SMALL, Settings, are_alternatives, refusal, tricks

FILE = Path(__file__).parents[2] / "docs" / "tricks" / "pairs.json"  # as the last trial has found them
# Long enough for the first cycle of schedules that have several.
TRIAL = SMALL | HOST | {"train.epochs": 12}


@dataclass(frozen=True)
class Pairs:
    """The outcome of a trial of all pairs."""

    tried: list[str]  # the tricks, as `<section>.<name>`
    alone: dict[str, str]  # the tricks that are refused by themselves, with the reason
    refused: list[list[str]]  # one, other, and why they do not go together

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Those that were tried."""
        return pairs_of([trick for trick in self.tried if trick not in self.alone])


def pairs_of(names: list[str]) -> list[tuple[str, str]]:
    """Two of them at a time, but for those of which one is chosen."""
    return [pair for pair in combinations(names, 2) if not are_alternatives(*pair)]


def together(*names: str) -> str | None:
    """Why the tricks are refused together; None where they train a step."""
    settings: Settings = dict(TRIAL)
    for name in names:
        settings |= tricks()[name]
    return refusal(settings)


def try_all(known: Pairs | None = None) -> Pairs:
    """Try every trick by itself, and every pair of those that can be had.

    Args:
        known: the outcome of an earlier trial, which is believed as far as it goes.
    """
    names = list(tricks())
    old: dict[tuple[str, str], str | None] = dict.fromkeys(known.pairs) if known else {}
    old |= {(one, other): reason for one, other, reason in known.refused} if known else {}
    alone = {name: reason for name in names if (reason := together(name))}
    pairs, refused = Pairs(names, alone, []).pairs, []
    for number, (one, other) in enumerate(pairs, start=1):
        if reason := old[one, other] if (one, other) in old else together(one, other):
            refused.append([one, other, reason])
        if number % 100 == 0 or number == len(pairs):
            print(f"{number} of {len(pairs)} pairs, {len(refused)} refused", file=sys.stderr, flush=True)
    return Pairs(names, alone, refused)


def load() -> Pairs:
    """The outcome of the last trial."""
    return Pairs(**json.loads(FILE.read_text()))


def save(pairs: Pairs) -> None:
    write_atomic(FILE, json.dumps(asdict(pairs), indent=1) + "\n")
