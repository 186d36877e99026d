"""The benchmarks print a table and a line of JSON, and update only their section of docs/benchmarks.md."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts.bench import __main__ as bench
from scripts.bench import harness
from scripts.bench import speed as bench_speed
from scripts.bench import step as bench_step

ROOT = Path(__file__).parent.parent


@pytest.fixture
def page(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "benchmarks.md"
    monkeypatch.setattr(harness, "DOC", path)
    return path


def test_a_benchmark_prints_its_table_and_numbers_and_updates_its_section(page, monkeypatch, capsys):
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


def test_a_new_section_is_appended(page):
    harness.write_section("## One\n\nfirst\n")
    harness.write_section("## Two\n\nsecond\n")
    harness.write_section("## One\n\nagain\n")
    assert page.read_text() == "# Benchmarks\n\n## One\n\nagain\n\n## Two\n\nsecond\n"
    assert harness.read_section("## Two") == "## Two\n\nsecond\n"


def test_every_benchmark_is_run_by_make_bench():
    files = (ROOT / "scripts" / "bench").glob("*.py")
    programs = {f"scripts.bench.{path.stem}" for path in files if "harness.publish(" in path.read_text()}
    assert len(programs) > 5
    assert programs <= {word for words in bench.BENCHMARKS for word in words.split()}


def test_a_failing_benchmark_is_named_and_the_others_still_run(monkeypatch, capfd):
    monkeypatch.setattr(bench, "BENCHMARKS", ("scripts.no_such", "scripts.grid --help"))
    assert bench.main() == 1
    assert "scripts.no_such: failed with exit code 1" in (said := capfd.readouterr().out)
    assert "usage" in said


def test_two_trainings_alternate_step_by_step_and_the_start_is_separate():
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


def test_works_alternate_in_every_round_and_warm_up_rounds_are_dropped():
    order = []

    def work(name: str):
        return lambda number: order.append((name, number)) or f"{name}{number}"

    results = harness.in_turns([work("a"), work("b")], 2, warm_up=1, is_reversed=lambda number: number == 1)
    assert order == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert results == [["a1", "a2"], ["b1", "b2"]]


def test_waiting_takes_wall_time_and_no_processor_time():
    result, wall, processor = harness.timed(lambda: time.sleep(0.2) or "done")
    assert result == "done" and wall >= 0.2 > 2 * processor


def test_a_table_aligns_labels_left_and_numbers_right():
    text = harness.table(["model", "by", "ms"], [("a", "us", 1), ("b", "them", 2)], labels=2)
    assert text == "| model | by | ms |\n|---|---|---:|\n| a | us | 1 |\n| b | them | 2 |"


def test_a_program_has_the_common_options_it_names_and_counts_are_at_least_1(capsys):
    parser = harness.parser("A benchmark.", batch=128, rounds=3)
    assert vars(parser.parse_args(["--rounds", "2"])) == {"batch": 128, "rounds": 2, "write": False}
    with pytest.raises(SystemExit):
        parser.parse_args(["--rounds", "0"])
    assert "argument --rounds: must be at least 1, got 0" in capsys.readouterr().err


def test_the_command_of_several_processes_is_that_of_torchrun(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["scripts/bench/parallel.py", "--steps", "1"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert harness.command() == "torchrun --nproc-per-node 2 -m scripts.bench.parallel --steps 1"
