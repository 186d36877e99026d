"""docs/tricks.md: the registries, the pairs of tricks and the benchmark of their cost."""

import re
from types import SimpleNamespace

import pytest
import torch

from lib.config.cli import parse
from lib.core.registry import schedules
from scripts.bench import harness
from scripts.bench import tricks as bench_tricks
from scripts.docs import pairs as trick_pairs
from scripts.docs.schedule_figure import LIMIT, curve, picture, shown
from scripts.docs.trials import are_alternatives, tricks
from scripts.docs.tricks import page

PAIRS = trick_pairs.load()


def test_all_pairs_of_tricks_are_formed_but_for_two_alternatives():
    names = list(tricks())
    # Counted another way: all twos, without those of a section that selects one entry.
    alternatives = sum(are_alternatives(one, other) for one in names for other in names if one != other) // 2
    assert len(trick_pairs.pairs_of(names)) == len(names) * (len(names) - 1) // 2 - alternatives


def test_what_trained_before_is_not_tried_again(monkeypatch):
    monkeypatch.setattr(trick_pairs, "tricks", lambda: ["wrap.sam", "wrap.agc", "init.dirac"])
    calls = []
    monkeypatch.setattr(trick_pairs, "together", lambda *names: calls.append(names))
    known = trick_pairs.Pairs(["wrap.sam", "wrap.agc"], {}, [])
    pairs = trick_pairs.try_all(known)
    assert calls == [("init.dirac",), ("wrap.sam", "init.dirac"), ("wrap.agc", "init.dirac")]
    assert pairs == trick_pairs.Pairs(["wrap.sam", "wrap.agc", "init.dirac"], {}, [])


def test_a_pair_that_was_refused_is_tried_again(monkeypatch):
    monkeypatch.setattr(trick_pairs, "tricks", lambda: ["wrap.sam", "wrap.agc"])
    monkeypatch.setattr(trick_pairs, "together", lambda *names: "new reason")
    known = trick_pairs.Pairs(["wrap.sam", "wrap.agc"], {}, [["wrap.sam", "wrap.agc", "old reason"]])
    assert trick_pairs.try_all(known).refused == [["wrap.sam", "wrap.agc", "new reason"]]


@pytest.mark.parametrize(("one", "other", "reason"), PAIRS.refused, ids=str)
def test_a_refused_pair_is_refused_for_the_reason_on_the_page(one, other, reason):
    assert trick_pairs.together(one, other) == reason


@pytest.mark.slow
def test_all_pairs_are_as_on_the_page():
    assert trick_pairs.try_all() == PAIRS


def test_every_flag_of_the_page_is_known():
    flags = re.findall(r"^\| `--([\w.-]+)` \|", page(PAIRS, {}), re.MULTILINE)
    assert len(flags) > len(tricks())
    for flag in flags:
        parse([f"--{flag}", "1"])


def test_every_link_within_the_page_has_its_heading():
    text = page(PAIRS, {})
    headings = [line.lstrip("# ").lower() for line in text.split("\n") if line.startswith("#")]
    anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
    for link in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchors.count(link) == 1, link


def test_the_figure_shows_every_schedule(tmp_path):
    figure = tmp_path / "schedules.png"
    figure.write_bytes(picture())
    assert figure.stat().st_size <= LIMIT
    assert shown(figure) == schedules.names()


@pytest.mark.parametrize("name", schedules.names())
def test_a_curve_is_over_the_whole_budget_and_never_below_0(name):
    times, factors = curve(name)
    assert (times[0], len(times)) == (0, 800)
    assert min(factors) >= 0


# The benchmark, and the page that it writes to.

OPTIONS = SimpleNamespace(batch=40, rounds=1, steps=2, precision="fp32")


def test_a_trick_is_timed_against_the_bare_step_and_its_ratio_is_read_back(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "DOC", tmp_path / "benchmarks.md")
    device, rows = torch.device("cpu"), bench_tricks.select(bench_tricks.timed(), ["sam", "train.clip"])
    assert list(rows) == ["wrap.sam", "train.clip"]
    assert bench_tricks.written() == {}
    monkeypatch.setattr(bench_tricks, "timed_step", lambda run, step, device: 1.0)
    bare = bench_tricks.settings_of("wrn_10_1", OPTIONS)
    times = bench_tricks.measure_all(rows, bare, OPTIONS, device)
    assert times == dict.fromkeys([bench_tricks.AGAIN, *rows], (1.0, 1.0))
    times["train.clip"] = None
    harness.write_section(bench_tricks.page({"wrn_10_1": times}, OPTIONS, device))
    assert bench_tricks.written() == {
        bench_tricks.AGAIN: {"wrn_10_1": "1.00"},
        "wrap.sam": {"wrn_10_1": "1.00"},
        "train.clip": {"wrn_10_1": "refused"},
    }


def test_a_ratio_is_the_mean_over_the_steps_of_a_round_of_their_medians_over_the_rounds(monkeypatch):
    runs = SimpleNamespace(total=2), SimpleNamespace(total=2)
    # By run, and then by round and step: the first round is not counted, one slow step is no median.
    took = {0: [9, 9, 2, 4, 2, 4, 8, 4], 1: [9, 9, 1, 1, 1, 1, 1, 7]}
    left = {id(run): iter(took[which]) for which, run in enumerate(runs)}
    monkeypatch.setattr(bench_tricks, "timed_step", lambda run, step, device: next(left[id(run)]))
    assert bench_tricks.duel(*runs, rounds=3, device=torch.device("cpu")) == (3, 1)


def test_a_round_has_the_requested_number_of_steps():
    options = SimpleNamespace(batch=10, rounds=1, steps=8, precision="bf16")
    run = bench_tricks.start(bench_tricks.settings_of("wrn_10_1", options))
    assert (run.total, run.epochs, run.precision) == (8, 2, "bf16")
    assert bench_tricks.timed_step(run, 0, torch.device("cpu")) > 0


def test_tricks_of_the_bare_step_are_not_timed():
    timed = bench_tricks.timed()
    assert "optim.sgd" not in timed
    assert "augment.flip" not in timed
    assert not any(row.startswith(("schedule.", "init.")) for row in timed)


def test_a_section_replaces_its_older_version_and_no_other(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "DOC", tmp_path / "benchmarks.md")
    for text in (
        "## One\n\nold\n\n### Part\n\nold\n",
        "## Two\n\nsame\n",
        "## One\n\nnew\n",
        "## Ten\n\nlast\n",
    ):
        harness.write_section(text)
    text = harness.DOC.read_text()
    assert text == "# Benchmarks\n\n## One\n\nnew\n\n## Two\n\nsame\n\n## Ten\n\nlast\n"
    assert harness.read_section("## Two") == "## Two\n\nsame\n\n"
    assert harness.read_section("## T") == ""
