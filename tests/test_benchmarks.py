"""The benchmarks run, print a table and a line of JSON, and renew their own section of the page alone."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts.bench import __main__ as bench
from scripts.bench import page as benchmark_page
from scripts.bench import speed as bench_speed
from scripts.bench import step as bench_step

ROOT = Path(__file__).parent.parent


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "benchmarks.md"
    monkeypatch.setattr(benchmark_page, "DOC", path)
    return path


def test_a_benchmark_prints_its_table_and_its_numbers_and_writes_the_table(page, monkeypatch, capsys):
    page.write_text("# Benchmarks\n\n## A step\n\nold\n\n## Tricks\n\nkept\n")
    line = "--models lenet --batch 4 --steps 1 --write"
    monkeypatch.setattr(sys, "argv", ["scripts/bench/step.py", *line.split()])
    bench_step.main()
    *table, numbers = capsys.readouterr().out.rstrip().split("\n")
    numbers = json.loads(numbers)
    assert numbers["benchmark"] == f"python -m scripts.bench.step {line}"
    assert numbers["environment"]["cores"] > 0
    (row,) = numbers["rows"]
    assert row["ratio"] == pytest.approx(row["ours"] / row["bare"]) and row["ours"] > 0
    text = page.read_text()
    assert f"{row['ratio']:.3f}" in table[-2] and table[-2] in text
    assert "old" not in text and text.endswith("## Tricks\n\nkept\n")


def test_a_section_that_is_new_comes_last(page):
    benchmark_page.write("## One\n\nfirst\n")
    benchmark_page.write("## Two\n\nsecond\n")
    benchmark_page.write("## One\n\nagain\n")
    assert page.read_text() == "# Benchmarks\n\n## One\n\nagain\n\n## Two\n\nsecond\n"
    assert benchmark_page.section("## Two") == "## Two\n\nsecond\n"


def test_every_benchmark_is_run_by_the_one_command():
    files = (ROOT / "scripts" / "bench").glob("*.py")
    programs = {f"scripts.bench.{path.stem}" for path in files if '"--write"' in path.read_text()}
    assert len(programs) > 5
    assert programs <= {word for words in bench.BENCHMARKS for word in words.split()}


def test_what_fails_is_named_and_the_others_still_run(monkeypatch, capfd):
    monkeypatch.setattr(bench, "BENCHMARKS", ("scripts.no_such", "scripts.grid --help"))
    assert bench.main() == 1
    assert "scripts.no_such: failed with exit code 1" in (said := capfd.readouterr().out)
    assert "usage" in said


def test_two_trainings_take_their_steps_in_turns_and_the_start_stands_apart():
    order = []

    def work(name: str, steps: int, accuracy: float):
        time.sleep(0.05)
        yield None
        for step in range(steps):
            order.append((name, step))
            yield torch.tensor(1.0 / (step + 1))
        yield accuracy

    works = {"ours": work("ours", 2, 94.0), "plain": work("plain", 4, 93.0)}
    found = bench_speed.by_turns(works, torch.device("cpu"))
    assert order[:4] == [("ours", 0), ("plain", 0), ("ours", 1), ("plain", 1)]
    assert [(found[kind]["steps"], found[kind]["accuracy"]) for kind in works] == [(2, 94.0), (4, 93.0)]
    assert found["plain"]["loss"] == 0.25
    assert all(one["start"] >= 0.05 > one["seconds"] > 0 for one in found.values())
