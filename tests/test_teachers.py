"""Teachers: their logits in a batch, and runs that learn from other runs."""

import contextlib
import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lib.run.fit
import lib.store.checkpoint
import train
from lib.augment.pipeline import Normalize
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.precision import autocast
from lib.core.registry import distillations
from lib.core.rng import Rng
from lib.engine.step import Run, train_step
from lib.engine.teacher import Renormalized, Teach
from lib.factory import build
from lib.losses.cross_entropy import CrossEntropy
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("undrawn")

B, K = 12, 5
CPU = torch.device("cpu")


def batch_of(x: Tensor) -> Batch:
    return Batch.of(x, torch.arange(len(x)) % K, K)


def networks_of(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    layers = [(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, K)) for _ in range(count)]
    return [nn.Sequential(*each).eval() for each in layers]


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_several_teachers_give_the_geometric_mean_of_their_softened_outputs(T):
    models = networks_of(3)
    batch = batch_of(torch.randn(B, 1, 2, 2) * 5)
    taught = Teach(models=models, precision="fp32").apply(batch, Rng(0))
    with torch.no_grad():
        outputs = torch.stack([(model(batch.x) / T).double().softmax(1) for model in models])
    mean = outputs.log().mean(0).exp()
    mean = mean / mean.sum(1, keepdim=True)
    torch.testing.assert_close((taught.teacher / T).double().softmax(1), mean, rtol=1e-5, atol=0)


def test_teacher_logits_are_constants_that_autograd_may_save():
    batch = batch_of(torch.zeros(B, 1, 2, 2))
    taught = Teach(models=networks_of(1), precision="fp32").apply(batch, Rng(0)).teacher
    assert not taught.requires_grad and not taught.is_inference()
    z = torch.randn(B, K, requires_grad=True)
    (z * taught).sum().backward()  # multiplication saves its factors for the backward pass
    assert torch.equal(z.grad, taught)


def test_a_teacher_sees_images_with_its_own_normalization():
    here, there = (Normalize(torch.rand(3, 1, 1), torch.rand(3, 1, 1) + 0.1) for _ in range(2))
    pixels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    seen = Renormalized(nn.Identity(), here, there)(here.pixels(pixels))
    torch.testing.assert_close(seen, there.pixels(pixels), atol=1e-5, rtol=1e-5)


# From the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with tiny.yaml and two teachers, `first` and `second`. Tests copy it."""
    place = tmp_path_factory.mktemp("teachers")
    with contextlib.chdir(place):
        Path("tiny.yaml").write_text(TINY)
        for name, line in (("first", "--ema --ema-decay 0.5"), ("second", "--seed 1 --model resnet_preact")):
            line = f"--config tiny.yaml --epochs 1 --milestones 0.5 --output-dir {name} {line}"
            assert train.main(line.split()) == 0
    return place


@pytest.fixture
def teachers(trained, tmp_path, monkeypatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_of(line: str) -> Run:
    return build(parse(["--config", "tiny.yaml", *line.split()]).config(), CPU, note=pytest.fail)


def prepared(run: Run, step: int = 0) -> Batch:
    rng = Rng(run.seed, step, 0)
    with torch.no_grad():
        return run.finalize(run.prepare(run.data.at(step), rng), rng)


def network(folder: str, weights: str = "model") -> nn.Module:
    """The network of a run, rebuilt by hand."""
    state = lib.store.checkpoint.load(Path(folder, "last.pt"))
    line = f"--config {folder}/config.yaml --output-dir elsewhere"
    model = build(parse(line.split()).config(), CPU, note=pytest.fail).model
    model.load_state_dict(state["model"] if weights == "model" else state["averages"][weights])
    return model.eval()


@pytest.mark.parametrize(
    ("line", "networks"),
    [
        ("--kd --teacher first", [("first",)]),
        ("--kd True --teacher first/last.pt --cutmix --label-smoothing", [("first",)]),
        ("--kd --teacher first --teacher-weights ema", [("first", "ema")]),
        ("--dkd --teacher first,second --mixup", [("first",), ("second",)]),
        ("--kd --teacher first --normalize standard --precision bf16", [("first",)]),
    ],
)
def test_teachers_see_the_same_pixels_as_the_student(teachers, line, networks):
    run = run_of(line)
    batch = prepared(run)
    with torch.no_grad(), autocast(CPU, run.precision):
        expected = [network(*which)(batch.x).float() for which in networks]
    assert torch.equal(batch.teacher, torch.stack(expected).sum(0) / len(expected))


def test_a_teacher_stays_fixed_and_runs_once_per_step(teachers, monkeypatch):
    made, grad_enabled = [], []
    apply = Teach.apply

    def watched(self, batch, rng):
        made.append(self)
        grad_enabled.append(torch.is_grad_enabled())
        return apply(self, batch, rng)

    monkeypatch.setattr(Teach, "apply", watched)
    run = run_of("--kd --dkd --teacher first,second --sam --accumulate 2")
    before = copy.deepcopy([model.state_dict() for model in made[0].models])
    grad_enabled.clear()
    for step in range(3):
        train_step(run, step)
    assert len(grad_enabled) == 3  # shared by SAM's second gradient and the micro-batches
    for model, state in zip(made[0].models, before, strict=True):
        assert not any(module.training for module in model.modules())
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key]), key
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    mine = {id(p) for p in run.params}
    assert not mine & {id(p) for model in made[0].models for p in model.parameters()}


def test_a_run_uses_the_distillation_loss(teachers):
    run = run_of("--kd 3 --kd-alpha 0.25 --teacher second --label-smoothing")
    batch, logits = prepared(run), torch.randn(16, 4)
    expected = distillations["kd"].build(base=CrossEntropy(), temperature=3.0, alpha=0.25)(logits, batch)
    torch.testing.assert_close(run.learning.loss(logits, batch), expected)


def test_micro_batches_add_up_to_the_gradient_of_the_batch_with_a_teacher(teachers):
    # vit_tiny has no BatchNorm, so its logits do not depend on the other samples of the micro-batch.
    weights = []
    for accumulate in (1, 3):
        run = run_of(f"--model vit_tiny --kd --dkd --teacher first --accumulate {accumulate}")
        train_step(run, 0)
        weights.append(torch.cat([p.detach().flatten() for p in run.params]))
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-4)


def test_a_teacher_does_not_change_any_other_random_draw(teachers):
    plain, taught = (run_of(f"--mixup --cutout 4 {line}") for line in ("", "--kd --teacher first"))
    for one, other in zip(plain.model.parameters(), taught.model.parameters(), strict=True):
        assert torch.equal(one, other)
    one, other = prepared(plain, 3), prepared(taught, 3)
    assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


def test_an_interrupted_student_resumes_bit_for_bit_and_can_be_a_teacher(teachers, monkeypatch):
    line = "--config tiny.yaml --kd --dkd --teacher first,second --sam --mixup --precision bf16"
    assert train.main([*line.split(), "--output-dir", "whole"]) == 0

    step = lib.run.fit.train_step

    def stop(run, number):
        if number == 6:
            raise KeyboardInterrupt
        return step(run, number)

    with monkeypatch.context() as patch:
        patch.setattr(lib.run.fit, "train_step", stop)
        assert train.main([*line.split(), "--output-dir", "stopped"]) == 130
    assert train.main([*line.split(), "--output-dir", "stopped"]) == 0
    whole, stopped = (lib.store.checkpoint.load(Path(folder, "last.pt")) for folder in ("whole", "stopped"))
    assert stopped["step"] == 8
    for key, value in whole["model"].items():
        assert torch.equal(stopped["model"][key], value), key
    # Born again: the teacher has the student's architecture and was a student itself.
    line = "--config tiny.yaml --epochs 0.5 --milestones 0.5 --kd --teacher whole --output-dir again"
    assert train.main(line.split()) == 0


def test_the_run_folder_names_the_distillation_and_its_hash_depends_on_the_teacher(tiny):
    def folder(line: str) -> Path:
        return parse(["--model", "resnet20", *line.split()]).config().folder().parent

    assert folder("--kd --teacher a").name.startswith("resnet20-kd-")
    assert folder("--kd --teacher a") != folder("--kd --teacher b")
    assert folder("--kd --teacher a,b") != folder("--kd --teacher a")
    Path("student.yaml").write_text("kd: true\nteacher: a\n")
    assert folder("--config student.yaml") == folder("--kd --teacher a")
    assert folder("--config student.yaml --no-kd --teacher none") == folder("")


REFUSED = {
    "no teacher": ("--kd", "kd needs a teacher: give --teacher"),
    "a teacher of nothing": ("--teacher first", "first has no effect", "--kd", "--teacher none"),
    "no checkpoint": ("--kd --teacher nowhere", "there is no checkpoint nowhere"),
    "no average of that name": ("--kd --teacher second --teacher-weights ema", "no average 'ema'", "last"),
    "other classes": ("--kd --teacher first --data.classes 5", "--teacher first", "new classes: class 4"),
    "other images": ("--kd --teacher first --image-size 12", "images of (3, 12, 12) instead of (3, 8, 8)"),
    "grey images": ("--kd --teacher first --data.channels 1", "images of (1, 8, 8) instead of (3, 8, 8)"),
    "other data": ("--kd --teacher first --dataset digits", "trained on synthetic", "set here is digits"),
    "a temperature of 0": ("--kd 0 --teacher first", "--kd (command", "temperature must be above 0"),
    "an alpha above 1": ("--kd-alpha 2 --teacher first", "--kd-alpha", "alpha must be"),
    "a negative beta": ("--dkd-beta -1 --teacher first", "--dkd-beta", "beta must be at least 0"),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_an_unusable_teacher_is_refused_in_one_line(teachers, capsys, line):
    words, *expected = line
    assert train.main(["--config", "tiny.yaml", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    for part in expected:
        assert part in error
    assert not Path("runs").exists()


def test_a_damaged_teacher_is_refused_in_one_line(teachers, capsys):
    path = Path("first/last.pt")
    path.write_bytes(path.read_bytes()[:1000])
    assert train.main(["--config", "tiny.yaml", "--kd", "--teacher", "first"]) == 2
    assert "first/last.pt cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_teacher_trained_on_more_of_the_same_images_keeps_its_own_normalization(teachers):
    batch = prepared(run_of("--kd --teacher first --data.size 48"))
    run, other = (run_of(f"--data.size {size}") for size in (48, 64))
    raw = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    here, there = run.normalize(raw), other.normalize(raw)
    assert not torch.equal(here, there)
    scale = (there[0, :, -1, -1] - there[0, :, 0, 0]) / (here[0, :, -1, -1] - here[0, :, 0, 0])
    shift = there[0, :, 0, 0] - scale * here[0, :, 0, 0]
    with torch.no_grad():
        expected = network("first")(batch.x * scale[:, None, None] + shift[:, None, None])
    torch.testing.assert_close(batch.teacher, expected, rtol=1e-4, atol=1e-4)
