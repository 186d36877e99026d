"""docs/tricks.md is what the registries, the trial of all pairs and the benchmark give now."""

import io
import re
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from lib.config.cli import parse
from lib.core.registry import schedules
from scripts.bench import page as benchmark_page
from scripts.bench import tricks as bench_tricks
from scripts.docs import tricks_pairs
from scripts.docs.schedules import LIMIT, TELLS, curve
from scripts.docs.tricks import DOC, PICTURE, page
from scripts.trials import are_alternatives, tricks

RENEW = "run python -m scripts.docs.tricks"
PAIRS = tricks_pairs.load()


def test_the_page_is_that_of_the_registries():
    kept = f"stale: {RENEW} --keep-pairs"
    assert DOC.read_text() == page(PAIRS, bench_tricks.written()), kept


def test_every_trick_was_tried_with_every_other_one():
    assert PAIRS.tried == list(tricks()), RENEW
    # Counted another way: all twos, less those within a kind of which one is chosen.
    kept = [trick for trick in PAIRS.tried if trick not in PAIRS.alone]
    within = sum(are_alternatives(one, other) for one in kept for other in kept if one != other) // 2
    assert len(PAIRS.pairs) == len(kept) * (len(kept) - 1) // 2 - within


@pytest.mark.parametrize(("one", "other", "reason"), PAIRS.refused, ids=str)
def test_what_the_page_says_to_be_refused_is_refused_for_that_reason(one, other, reason):
    assert tricks_pairs.together(one, other) == reason, RENEW


@pytest.mark.slow
def test_all_pairs_are_as_the_page_has_them():
    assert tricks_pairs.try_all() == PAIRS, RENEW


def test_every_flag_of_the_page_is_known():
    flags = re.findall(r"^\| `--([\w.-]+)` \|", DOC.read_text(), re.MULTILINE)
    assert len(flags) > len(tricks())
    for flag in flags:
        parse([f"--{flag}", "1"])


def test_every_link_within_the_page_has_its_heading():
    text = DOC.read_text()
    headings = [line.lstrip("# ").lower() for line in text.split("\n") if line.startswith("#")]
    anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
    for link in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchors.count(link) == 1, link


def test_the_picture_shows_every_schedule():
    assert PICTURE.stat().st_size <= LIMIT
    with Image.open(io.BytesIO(PICTURE.read_bytes())) as image:
        assert image.text[TELLS].split(",") == schedules.names(), RENEW


@pytest.mark.parametrize("name", schedules.names())
def test_a_curve_is_over_the_whole_budget_and_never_below_0(name):
    times, factors = curve(name)
    assert (times[0], len(times)) == (0, 800)
    assert min(factors) >= 0


# --- the benchmark, and the page that it writes into ---

OPTIONS = SimpleNamespace(batch=40, rounds=1, steps=2, precision="fp32")


def test_a_trick_is_timed_beside_the_bare_step_and_its_ratio_is_read_back(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark_page, "DOC", tmp_path / "benchmarks.md")
    device, rows = torch.device("cpu"), bench_tricks.select(bench_tricks.timed(), ["sam", "train.clip"])
    assert list(rows) == ["wrap.sam", "train.clip"]
    assert bench_tricks.written() == {}
    monkeypatch.setattr(bench_tricks, "timed_step", lambda run, step, device: 1.0)
    bare = bench_tricks.settings_of("wrn_10_1", OPTIONS)
    times = bench_tricks.measure_all(rows, bare, OPTIONS, device)
    assert times == dict.fromkeys([bench_tricks.AGAIN, *rows], (1.0, 1.0))
    times["train.clip"] = None
    benchmark_page.write(bench_tricks.page({"wrn_10_1": times}, OPTIONS, device))
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


def test_a_round_is_as_many_steps_as_are_asked_for():
    options = SimpleNamespace(batch=10, rounds=1, steps=8, precision="bf16")
    run = bench_tricks.start(bench_tricks.settings_of("wrn_10_1", options))
    assert (run.total, run.epochs, run.precision) == (8, 2, "bf16")
    assert bench_tricks.timed_step(run, 0, torch.device("cpu")) > 0


def test_what_the_bare_step_does_anyway_is_not_timed():
    timed = bench_tricks.timed()
    assert "optim.sgd" not in timed
    assert "augment.flip" not in timed
    assert not any(row.startswith(("schedule.", "init.")) for row in timed)


def test_a_section_takes_the_place_of_its_older_self_and_leaves_the_others(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark_page, "DOC", tmp_path / "benchmarks.md")
    for text in (
        "## One\n\nold\n\n### Part\n\nold\n",
        "## Two\n\nsame\n",
        "## One\n\nnew\n",
        "## Ten\n\nlast\n",
    ):
        benchmark_page.write(text)
    text = benchmark_page.DOC.read_text()
    assert text == "# Benchmarks\n\n## One\n\nnew\n\n## Two\n\nsame\n\n## Ten\n\nlast\n"
    assert benchmark_page.section("## Two") == "## Two\n\nsame\n\n"
    assert benchmark_page.section("## T") == ""
