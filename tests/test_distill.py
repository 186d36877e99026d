"""Distillation: its losses against the papers' formulas, and teachers that teach without learning."""

import contextlib
import copy
import math
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
from lib.distill.dkd import parts
from lib.engine.step import Run, train_step
from lib.engine.teacher import Renormalized, Teach
from lib.factory import build
from tests.helpers.runs import TINY

pytestmark = pytest.mark.usefixtures("undrawn")

B, K = 12, 5
CPU = torch.device("cpu")


def batch_of(seed: int = 0, scale: float = 3.0, epoch: int = 0) -> tuple[Tensor, Batch]:
    """Logits of a student, and a batch with those of a teacher."""
    noise = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(B, K, generator=noise) * scale for _ in range(2))
    y = torch.eye(K)[torch.arange(B) % K]
    return student, Batch(torch.zeros(B, 1, 2, 2), y, torch.arange(B), epoch=epoch, teacher=teacher)


def nothing(logits: Tensor, batch: Batch) -> Tensor:
    return torch.zeros(len(batch))


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return -(batch.y * logits.log_softmax(1)).sum(1)


def term(name: str, epochs: float = 1, base=nothing, **options):
    return distillations[name].build(**options)(base, epochs)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [p / sum(powers) for p in powers]


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p || q)"""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softened(logits: Tensor, T: float) -> list[list[float]]:
    return [softmax([z / T for z in row]) for row in logits.double().tolist()]


# The losses


@pytest.mark.parametrize("T", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
def test_kd_is_the_weighted_sum_of_the_loss_and_the_divergence_of_softened_outputs(T, alpha):
    student, batch = batch_of()
    hard = cross_entropy(student.double(), batch)
    outputs = zip(softened(batch.teacher, T), softened(student, T), strict=True)
    soft = [divergence(p, q) for p, q in outputs]
    expected = (1 - alpha) * hard + alpha * T**2 * torch.tensor(soft, dtype=torch.float64)
    found = term("kd", base=cross_entropy, temperature=T, alpha=alpha)(student, batch)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7 * (10 + T) ** 2)


def test_the_defaults_of_kd_are_a_temperature_of_4_and_an_alpha_of_0_9():
    student, batch = batch_of()
    plain = term("kd", base=cross_entropy)(student, batch)
    assert torch.equal(plain, term("kd", base=cross_entropy, temperature=4, alpha=0.9)(student, batch))


def test_kd_at_a_high_temperature_matches_logits():
    # Hinton et al. 2015, section 2.1: for zero-mean logits the gradient tends to (z - v) / K, once times T^2.
    student, batch = batch_of()
    student -= student.mean(1, keepdim=True)
    teacher = batch.teacher - batch.teacher.mean(1, keepdim=True)
    z = student.double().requires_grad_()
    loss = term("kd", temperature=1000.0, alpha=1.0)
    # float32 inside: the sum is taken over samples, each with a gradient of its own.
    (gradient,) = torch.autograd.grad(loss(z, batch.replace(teacher=teacher)).sum(), z)
    torch.testing.assert_close(gradient, (z.detach() - teacher) / K, atol=5e-3, rtol=0)


@pytest.mark.parametrize("name", distillations.names())
def test_a_student_that_says_what_its_teacher_says_gets_no_gradient(name):
    student, batch = batch_of()
    options = {"alpha": 1.0, "temperature": 1.0}
    z = student.clone().requires_grad_()
    loss = term(name, **options)(z, batch.replace(teacher=student))
    torch.testing.assert_close(loss.detach(), torch.zeros(B), atol=1e-5, rtol=0)
    loss.sum().backward()
    torch.testing.assert_close(z.grad, torch.zeros(B, K), atol=1e-6, rtol=0)
    z.grad = None
    term(name, **options)(z, batch).sum().backward()  # and from another teacher it does get one
    assert z.grad.abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_dkd_is_the_weighted_sum_of_its_two_divergences(T):
    student, batch = batch_of()
    expected = []
    targets = batch.y.argmax(1).tolist()
    for target, p, q in zip(targets, softened(batch.teacher, T), softened(student, T), strict=True):
        binary = ([r[target], sum(r) - r[target]] for r in (p, q))
        others = ([v / (sum(r) - r[target]) for k, v in enumerate(r) if k != target] for r in (p, q))
        expected.append(T**2 * (1.5 * divergence(*binary) + 6 * divergence(*others)))
    options = {"alpha": 1.5, "beta": 6.0, "temperature": T, "warmup": 0}
    found = term("dkd", **options)(student, batch)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    with_base = term("dkd", base=cross_entropy, **options)(student, batch)
    torch.testing.assert_close(with_base, found + cross_entropy(student, batch))


@pytest.mark.parametrize("scale", [0.5, 3.0, 30.0])
def test_kd_is_the_target_s_part_and_the_others_part_weighted_by_the_teacher_s_doubt(scale):
    # Zhao et al. 2022, section 3.1: KD = TCKD + (1 - p_t) NCKD.
    student, batch = batch_of(scale=scale)
    target = batch.y.argmax(1, keepdim=True)
    tckd, nckd = parts(student, batch.teacher, target)
    doubt = 1 - batch.teacher.double().softmax(1).gather(1, target)[:, 0]
    kd = term("kd", temperature=1.0, alpha=1.0)(student, batch)
    torch.testing.assert_close(tckd + doubt * nckd, kd.double(), rtol=1e-4, atol=1e-4)


def test_dkd_stays_finite_where_a_network_has_no_doubt_left():
    student, batch = batch_of(scale=300.0)
    z = student.requires_grad_()
    loss = term("dkd", warmup=0)(z, batch)
    loss.sum().backward()
    assert loss.isfinite().all() and z.grad.isfinite().all()


@pytest.mark.parametrize(("warmup", "epochs"), [(20, 240), (20 / 240, 240), (0.5, 40)])
def test_the_term_of_dkd_rises_linearly_to_its_full_weight(warmup, epochs):
    student, batch = batch_of()
    full = term("dkd", warmup=0)(student, batch)
    loss = term("dkd", epochs=epochs, warmup=warmup)
    for epoch, share in ((0, 1 / 20), (9, 0.5), (19, 1), (30, 1)):
        torch.testing.assert_close(loss(student, batch.replace(epoch=epoch)), share * full)


def test_the_target_of_a_mixed_sample_is_the_class_with_the_largest_part():
    student, batch = batch_of()
    mixed = batch.replace(y=torch.lerp(batch.y.roll(1, 0), batch.y, 0.6))
    loss = term("dkd", warmup=0)
    assert torch.equal(loss(student, batch), loss(student, mixed))


# Teachers


def networks_of(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    layers = [(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, K)) for _ in range(count)]
    return [nn.Sequential(*each).eval() for each in layers]


@pytest.mark.parametrize("T", [1.0, 4.0])
def test_several_teachers_say_the_geometric_mean_of_their_softened_outputs(T):
    models = networks_of(3)
    _, batch = batch_of()
    batch = batch.replace(x=torch.randn(B, 1, 2, 2) * 5, teacher=None)
    taught = Teach(models=models, precision="fp32")(batch, Rng(0))
    with torch.no_grad():
        outputs = torch.stack([(model(batch.x) / T).double().softmax(1) for model in models])
    mean = outputs.log().mean(0).exp()
    mean = mean / mean.sum(1, keepdim=True)
    torch.testing.assert_close((taught.teacher / T).double().softmax(1), mean, rtol=1e-5, atol=0)


def test_what_a_teacher_says_is_a_constant_that_autograd_may_save():
    _, batch = batch_of()
    taught = Teach(models=networks_of(1), precision="fp32")(batch, Rng(0)).teacher
    assert not taught.requires_grad and not taught.is_inference()
    z = torch.randn(B, K, requires_grad=True)
    (z * taught).sum().backward()  # what is multiplied is saved for the way back
    assert torch.equal(z.grad, taught)


def test_images_that_were_normalised_another_way_are_seen_as_the_teacher_has_learned_them():
    here, there = (Normalize(torch.rand(3, 1, 1), torch.rand(3, 1, 1) + 0.1) for _ in range(2))
    pixels = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    seen = Renormalized(nn.Identity(), here, there)(here.pixels(pixels))
    torch.testing.assert_close(seen, there.pixels(pixels), atol=1e-5, rtol=1e-5)


# From the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with tiny.yaml and two teachers, `first` and `second`. Only to be copied."""
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
        return run.deal(run.prepare(run.data.at(step), rng), rng)


def network(folder: str, weights: str = "model") -> nn.Module:
    """The network of a run, put together by hand."""
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
def test_the_teachers_see_the_very_pixels_that_the_student_sees(teachers, line, networks):
    run = run_of(line)
    batch = prepared(run)
    with torch.no_grad(), autocast(CPU, run.precision):
        expected = [network(*which)(batch.x).float() for which in networks]
    assert torch.equal(batch.teacher, torch.stack(expected).sum(0) / len(expected))


def test_a_teacher_neither_learns_nor_gets_gradients_and_is_asked_once_a_step(teachers, monkeypatch):
    made, asked = [], []
    call = Teach.__call__

    def watched(self, batch, rng):
        made.append(self)
        asked.append(torch.is_grad_enabled())
        return call(self, batch, rng)

    monkeypatch.setattr(Teach, "__call__", watched)
    run = run_of("--kd --dkd --teacher first,second --sam --accumulate 2")
    before = copy.deepcopy([model.state_dict() for model in made[0].models])
    asked.clear()
    for step in range(3):
        train_step(run, step)
    assert len(asked) == 3  # SAM's second gradient and the micro-batches have the same answer
    for model, state in zip(made[0].models, before, strict=True):
        assert not any(module.training for module in model.modules())
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key]), key
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    mine = {id(p) for p in run.params}
    assert not mine & {id(p) for model in made[0].models for p in model.parameters()}


def test_the_loss_of_a_run_is_the_distillation_s(teachers):
    run = run_of("--kd 3 --kd-alpha 0.25 --teacher second --label-smoothing")
    batch, logits = prepared(run), torch.randn(16, 4)
    expected = term("kd", base=cross_entropy, temperature=3.0, alpha=0.25)(logits, batch)
    torch.testing.assert_close(run.loss(logits, batch), expected)


def test_micro_batches_add_up_to_the_gradient_of_the_batch_with_a_teacher(teachers):
    # vit_tiny has no BatchNorm, so a part of the batch says what the whole says of it.
    weights = []
    for accumulate in (1, 3):
        run = run_of(f"--model vit_tiny --kd --dkd --teacher first --accumulate {accumulate}")
        train_step(run, 0)
        weights.append(torch.cat([p.detach().flatten() for p in run.params]))
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-4)


def test_a_teacher_leaves_the_draws_of_everything_else_as_they_were(teachers):
    plain, taught = (run_of(f"--mixup --cutout 4 {line}") for line in ("", "--kd --teacher first"))
    for one, other in zip(plain.model.parameters(), taught.model.parameters(), strict=True):
        assert torch.equal(one, other)
    one, other = prepared(plain, 3), prepared(taught, 3)
    assert torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


def test_a_student_that_is_stopped_ends_the_same_bit_for_bit_and_can_teach_in_turn(teachers, monkeypatch):
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
    # Born again: a teacher of the student's own architecture, itself a student.
    line = "--config tiny.yaml --epochs 0.5 --milestones 0.5 --kd --teacher whole --output-dir again"
    assert train.main(line.split()) == 0


def test_the_run_s_name_says_that_it_is_distilled_and_its_teacher_is_part_of_its_hash(tiny):
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
    "a teacher of nothing": ("--teacher first", "first has nothing to do", "--kd", "--teacher none"),
    "no checkpoint": ("--kd --teacher nowhere", "there is no checkpoint nowhere"),
    "no average of that name": ("--kd --teacher second --teacher-weights ema", "no average 'ema'", "last"),
    "other classes": ("--kd --teacher first --data.classes 5", "--teacher first", "in 4 classes", "in 5"),
    "other images": ("--kd --teacher first --image-size 12", "images of (3, 8, 8)", "of (3, 12, 12)"),
    "grey images": ("--kd --teacher first --data.channels 1", "(3, 8, 8)", "(1, 8, 8)"),
    "other data": ("--kd --teacher first --dataset digits", "has learned synthetic", "data here are digits"),
    "a temperature of 0": ("--kd 0 --teacher first", "kd: temperature must be above 0"),
    "an alpha above 1": ("--kd-alpha 2 --teacher first", "kd: alpha must be between 0 and 1"),
    "a negative beta": ("--dkd-beta -1 --teacher first", "dkd: beta must be at least 0"),
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(teachers, capsys, line):
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


def test_a_teacher_that_was_trained_on_more_images_of_the_same_kind_keeps_its_own_normalisation(teachers):
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
