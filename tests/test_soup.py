"""Model soups: the mean of the weights of several runs, and its record."""

import contextlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import lib.store.checkpoint
import train
from lib.config.cli import parse
from lib.data.base import DataSpec
from lib.factory import build
from lib.store.checkpoint import Checkpoint
from scripts import predict, soup
from tests.helpers.images import picture
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
RUNS = {
    "start": "--val 0.25 --ema",
    "one": "--val 0.25 --seed 1 --init-from start",
    "two": "--val 0.25 --seed 2 --init-from start --lr 0.02",
    "open": "--seed 3",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with tiny.yaml and these runs; tests copy it."""
    place = tmp_path_factory.mktemp("runs")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        for name, line in RUNS.items():
            line = f"--config tiny.yaml --epochs 1 --milestones 0.5 --output-dir {name} {line}"
            assert train.main(line.split()) == 0
    return place


@pytest.fixture
def runs(trained, tmp_path, monkeypatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(line: str) -> dict:
    """The record of the soup that this line makes in the folder `pot`."""
    assert soup.main([*line.split(), "-o", "pot", "--device", "cpu"]) == 0
    return json.loads(Path("pot/soup.json").read_text())


def weights_of(folder: str) -> dict[str, torch.Tensor]:
    return lib.store.checkpoint.load(Path(folder, "last.pt"))["model"]


def test_a_uniform_soup_is_the_mean_of_weights_with_the_batchnorm_statistics_of_torch(runs):
    record = made("start one two/last.pt")
    found, parts = weights_of("pot"), [weights_of(name) for name in ("start", "one", "two")]
    for key, tensor in found.items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(tensor, sum(part[key].double() for part in parts).div(3).float()), key
    # All 48 training images are one batch, so torch's pass over them is ours.
    run = build(parse(["--config", "start/config.yaml"]).config(), CPU, note=pytest.fail)
    run.model.load_state_dict(found)
    torch.optim.swa_utils.update_bn([run.normalize(run.data.split.x)], run.model)
    for key, tensor in run.model.state_dict().items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)
    assert record["recipe"] == "uniform"
    assert [each["taken"] for each in record["runs"]] == [True] * 3
    run.model.eval()
    with torch.no_grad():
        right = run.model(run.normalize(run.splits["test"].x)).argmax(1) == run.splits["test"].y
    assert record["test_accuracy"] == pytest.approx(100 * right.double().mean().item())


def test_the_record_has_the_runs_and_the_accuracy_of_each(runs):
    record = made("one two")
    assert [each["path"] for each in record["runs"]] == ["one/last.pt", "two/last.pt"]
    for each in record["runs"]:
        result = json.loads(Path(each["path"]).with_name("result.json").read_text())
        for key in ("test_accuracy", "val_accuracy", "seed", "config"):
            assert each[key] == result[key]
        assert each["step"] == result["steps"]
        assert each["init_from"] == "start"
    assert record["environment"]["code"]


def test_a_soup_of_equal_weights_has_these_weights(runs):
    shutil.copytree("one", "copy")
    made("one copy")
    for key, tensor in weights_of("one").items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(weights_of("pot")[key], tensor)


def test_a_greedy_soup_is_at_least_as_good_on_the_held_out_images_as_the_best_run(runs):
    record = made("start one two --greedy")
    assert record["val_accuracy"] >= max(each["val_accuracy"] for each in record["runs"])
    taken = [Path(each["path"]).parent for each in record["runs"] if each["taken"]]
    assert taken
    if len(taken) == 1:  # the best run as it is, with its own statistics
        assert all(torch.equal(weights_of("pot")[key], t) for key, t in weights_of(taken[0]).items())


class Scale:
    """An evaluator whose accuracy is the higher, the nearer a weight is to 1."""

    def __init__(self):
        self.tried = []

    def evaluate(self, runs: list[Checkpoint]) -> dict:
        w = soup.mean([run.weights() for run in runs])["w"].item()
        self.tried.append([run.step for run in runs])
        return {"val": SimpleNamespace(accuracy=-abs(w - 1))}


def checkpoint_of(step: int, weight: float) -> Checkpoint:
    return Checkpoint(Path(str(step)), {"step": step, "model": {"w": torch.tensor([weight])}})


def test_the_greedy_recipe_adds_runs_from_the_best_down_unless_they_lower_the_accuracy():
    weights = [4.0, 0.5, 1.25, 0.75, -3.0]
    runs = [checkpoint_of(i, w) for i, w in enumerate(weights)]
    scale = Scale()
    taken = soup.greedy(runs, [-abs(w - 1) for w in weights], scale)
    # 1.25 and 0.75 are equally good, so the first of them is first; their mean is 1, the optimum.
    assert scale.tried == [[2, 3], [2, 3, 1], [2, 3, 0], [2, 3, 4]]
    assert [run.step for run in taken] == [2, 3]
    alike = [checkpoint_of(step, 2.0) for step in (0, 1)]
    assert soup.greedy(alike, [-1.0, -1.0], Scale()) == alike  # equally good is enough


def test_the_averages_of_runs_can_be_averaged(runs, capsys):
    shutil.copytree("start", "copy")
    made("start copy --weights ema")
    average = lib.store.checkpoint.load(Path("start/last.pt"))["averages"]["ema"]
    key = next(key for key in average if key.endswith("weight"))
    assert torch.equal(weights_of("pot")[key], average[key])
    assert soup.main(["start", "one", "-o", "new", "--weights", "ema"]) == 2
    assert "one/last.pt has no average 'ema'" in capsys.readouterr().err


def test_a_soup_is_a_teacher_an_initialisation_and_a_classifier_but_no_run_to_resume(runs, capsys):
    made("one two")
    picture("RGB").save("image.png")
    capsys.readouterr()
    assert predict.main(["pot", "image.png", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("image.png: class ")
    line = ["--config", "tiny.yaml", "--epochs", "0.25", "--milestones", "0.5"]
    assert train.main([*line, "--kd", "--teacher", "pot", "--output-dir", "student"]) == 0
    assert train.main([*line, "--init-from", "pot", "--output-dir", "again"]) == 0
    assert train.main(["--config", "tiny.yaml", "--output-dir", "pot"]) == 2
    assert "pot/last.pt does not belong to this run" in capsys.readouterr().err


def test_runs_with_different_initial_weights_are_noted(runs, capsys):
    made("one two")
    assert "note" not in capsys.readouterr().out
    shutil.rmtree("pot")
    made("start open")
    assert "did not start from the same trained weights" in capsys.readouterr().out


REFUSED = {
    "one run": ("one -o pot", "at least two runs", "only one/last.pt"),
    "a run twice": ("one one/last.pt -o pot", "was given twice"),
    "no run": ("one nowhere -o pot", "there is no checkpoint nowhere"),
    "a folder with something in it": ("one two -o start", "start exists already"),
    "greedy without held-out images": ("one open --greedy -o pot", "same --val", "0.25, 0", "leave out"),
    "another architecture": ("one vit -o pot", "vit/last.pt has another model", "name: vit_tiny"),
    "other data": ("one other -o pot", "other/last.pt has another data", "classes: 5"),
    "no such device": ("one two -o pot --device tpux", "'tpux' is none of"),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_runs_that_cannot_be_averaged_are_refused_in_one_line(runs, capsys, line):
    words, *expected = line
    for name, change in (("vit", {"model": {"name": "vit_tiny"}}), ("other", {"data": {"classes": 5}})):
        state = lib.store.checkpoint.load(Path("one/last.pt"))
        ((section, values),) = change.items()
        kept = {} if section == "model" else state["config"][section]
        lib.store.checkpoint.write(
            Path(name, "last.pt"),
            state["model"],
            step=3,
            config=state["config"] | {section: kept | values},
            code="",
            data=DataSpec(**state["data"]),
            total=3,
        )
    assert soup.main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    for part in expected:
        assert part in error
    assert not Path("pot").exists()
