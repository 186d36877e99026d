"""Fine-tuning: weights of any program to start from, new heads, and frozen parts."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lib
import lib.run.fit
import train
from lib.config.cli import parse
from lib.engine.evaluate import refresh_statistics
from lib.engine.step import Run, train_step
from lib.factory import build
from tests.helpers.resume import learned

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
HEAD = ("head.weight", "head.bias")


def run_of(line: str, notes: list[str] | None = None) -> Run:
    config = parse(["--config", "tiny.yaml", *line.split()]).config()
    return build(config, CPU, note=pytest.fail if notes is None else notes.append)


def weights(num_classes: int = 4, name: str = "resnet20", channels: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    model = lib.create_model(name, num_classes, channels, 8)
    model.train()(torch.randn(8, channels, 8, 8))  # statistics of their own
    return model.state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in weights().items()}


FORMS = {
    "bare": weights,
    "net and acc": lambda: {"net": weights(), "acc": 93.2, "epoch": 7},
    "numpy and arguments": lambda: {"model": weights(), "acc": np.float64(3), "args": Namespace(lr=1)},
    "Lightning": lambda: {
        "state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
    },
    "DataParallel": lambda: {"model_state_dict": prefixed("module.")},
    "compiled": lambda: prefixed("_orig_mod."),
    "both": lambda: {"params_ema": prefixed("module._orig_mod.")},
    "nested": lambda: {"student": {"weights": {"backbone": prefixed("encoder.net.")}}},
    "of before torch 0.4.1": lambda: {k: v for k, v in weights().items() if "tracked" not in k},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["weights.pth", "weights.safetensors", "old.pt"])
def test_weights_in_the_forms_that_programs_save_are_loaded(tiny, form, file):
    content = FORMS[form]()
    if file == "weights.safetensors":
        if not all(isinstance(value, torch.Tensor) for value in content.values()):
            pytest.skip("safetensors holds nothing but tensors")
        save_file(content, file)
    else:
        torch.save(content, file, _use_new_zipfile_serialization=file != "old.pt")
    found, expected = run_of(f"--init-from {file}").model.state_dict(), weights()
    names = [name for name in expected if "tracked" not in name]
    assert all(torch.equal(found[name], expected[name]) for name in names)


def test_the_names_of_a_model_with_a_prefix_match_a_file_without_one(tiny):
    found = run_of("--model torchvision/resnet18").model.state_dict()
    prefix = next(iter(found)).partition(".")[0] + "."
    if all(name.startswith(prefix) for name in found):
        torch.save({name.removeprefix(prefix): tensor + 1 for name, tensor in found.items()}, "bare.pt")
        again = run_of("--model torchvision/resnet18 --init-from bare.pt").model.state_dict()
        assert all(torch.equal(again[name], tensor + 1) for name, tensor in found.items())


def test_a_head_for_other_classes_is_new_and_the_body_is_loaded(tiny):
    torch.save({"net": weights(num_classes=7)}, "seven.pt")
    notes: list[str] = []
    found, untouched = run_of("--init-from seven.pt", notes).model, run_of("").model
    assert len(notes) == 1 and all(name in notes[0] for name in HEAD)
    for name, tensor in found.state_dict().items():
        expected = untouched.state_dict() if name in HEAD else weights(num_classes=7)
        assert torch.equal(tensor, expected[name]), name


def test_as_many_classes_of_other_names_get_a_new_head(tiny):
    line = "--epochs 1 --milestones 0.5 --output-dir first"
    assert train.main(["--config", tiny, *line.split()]) == 0
    state = torch.load("first/last.pt", weights_only=True)
    assert run_of("--init-from first").model.head.weight.equal(state["model"]["head.weight"])
    state["data"]["classes"] = ("ant", "bee", "cat", "dog")
    torch.save(state, "first/last.pt")
    notes: list[str] = []
    assert run_of("--init-from first", notes).model.head.weight.equal(run_of("").model.head.weight)
    assert "head.weight" in notes[0]


REFUSED = {
    "a smaller model": (
        "resnet20",
        "--model resnet32",
        "60 missing",
        "stages.9.residual.0.weight",
        "--model",
    ),
    "a larger model": (
        "resnet32",
        "--model resnet20",
        "72 unexpected",
        "stages.9.residual.0.weight",
        "--model",
    ),
    "a wider model": ("wrn_10_1", "--model wrn_10_2", "of another shape", "16x16x3x3 there"),
    "other names": ("vit_tiny", "--model resnet20", "missing", "unexpected", "and"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_of_another_model_are_refused_with_the_tensors_that_differ(refused, case):
    name, line, *parts = REFUSED[case]
    torch.save({"state_dict": weights(name=name)}, "theirs.pt")
    refused(
        f"--init-from theirs.pt {line} --output-dir new", "theirs.pt, entry state_dict", *parts, changes=True
    )
    assert not Path("new").exists()


def test_weights_for_images_of_other_channels_are_refused_in_one_line(refused):
    torch.save(weights(channels=1), "grey.pt")
    refused("--init-from grey.pt", "stem.0.weight is 16x1x3x3", "images of other channels")


@pytest.mark.parametrize("content", [{"a": 1}, [1, 2], {"a": {"b": "c"}}])
def test_a_file_without_weights_is_refused(refused, content):
    torch.save(content, "none.pt")
    refused("--init-from none.pt", "none.pt holds no weights")


# Frozen parts


def test_a_frozen_body_keeps_every_bit_and_the_rest_trains(tiny):
    torch.save(weights(), "start.pt")
    tricks = (
        "--sam --ema --swa --swa-start 0.1 --weight-decay 0.1 --mixup --gradient-centralization --lookahead"
    )
    run = run_of(f"--init-from start.pt --freeze body --epochs 2 --milestones 1 {tricks}")
    head = {name: p.clone() for name, p in run.model.named_parameters() if name in HEAD}
    for step in range(run.total):
        train_step(run, step)
    swa = run.averages["swa"].model
    refresh_statistics(swa, run.data.split, run.normalize, "fp32")
    for model in (run.model, run.averages["ema"].model, swa):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, weights()[name]) == (name not in HEAD), name
    assert {name for name, p in run.model.named_parameters() if p.grad is not None} == set(HEAD)
    assert [p.shape for p in run.params] == [p.shape for p in head.values()]


def test_a_linear_probe_is_a_linear_classifier_of_the_features_in_eval_mode(tiny):
    torch.save(weights(), "start.pt")
    run = run_of(
        "--init-from start.pt --freeze body --momentum 0 --weight-decay 0 --clip 1e9 --no-crop --no-flip"
    )
    body, head = lib.create_model("resnet20", 4, 3, 8), nn.Linear(64, 4)
    body.load_state_dict(weights())
    head.load_state_dict(body.head.state_dict())
    body.head, body = nn.Identity(), body.eval()
    sgd = torch.optim.SGD(head.parameters(), lr=run.optimizer.param_groups[0]["lr"])
    for step in range(3):
        batch = run.prepare(run.data.at(step), lib.core.rng.Rng(run.seed, step, 0))
        with torch.no_grad():
            features = body(batch.x)
        loss = nn.functional.cross_entropy(head(features), batch.y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        torch.testing.assert_close(train_step(run, step), loss.detach())
    torch.testing.assert_close(run.model.head.weight, head.weight)


def test_patterns_freeze_modules_and_parameters_with_the_statistics_of_whole_norms(tiny):
    model = run_of("--freeze stem,stages.0,*.residual.4.weight").model
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("stem.", "stages.0.")) or name.endswith(".residual.4.weight")
    }
    still = {name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.training}
    assert still == {"stem.1", "stages.0.residual.1", "stages.0.residual.4"}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("stagse", "is called stagse; did you mean stages"),
        ("*", "the whole model"),
        ("body,head", "whole"),
    ],
)
def test_a_pattern_of_nothing_or_of_everything_is_refused(refused, pattern, said):
    refused(f"--freeze {pattern}", "train.freeze", said)


def test_a_frozen_run_resumes_with_the_same_bits(tiny, monkeypatch):
    torch.save(weights(num_classes=7), "start.pt")
    line = [
        "--config",
        tiny,
        *["--init-from", "start.pt", "--freeze", "stem,stages.0", "--ema", "--swa", "--sam", "--tta-flip"],
    ]
    assert train.main([*line, "--output-dir", "whole"]) == 0
    step = lib.run.fit.train_step

    def stop(run, number):
        if number == 6:
            raise KeyboardInterrupt
        return step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", stop)
        assert train.main([*line, "--output-dir", "stopped"]) == 130
    assert train.main([*line, "--output-dir", "stopped"]) == 0
    assert learned("stopped") == learned("whole")
