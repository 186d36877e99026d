"""Distillation losses against the papers' formulas, worked out in plain Python."""

import math

import pytest
import torch
from torch import Tensor

from lib.core.batch import Batch
from lib.core.registry import distillations
from lib.distill.dkd import parts

B, K = 12, 5


def batch_of(seed: int = 0, scale: float = 3.0, epoch: int = 0) -> tuple[Tensor, Batch]:
    """A student's logits, and a batch with a teacher's logits."""
    noise = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(B, K, generator=noise) * scale for _ in range(2))
    y = torch.eye(K)[torch.arange(B) % K]
    return student, Batch(torch.zeros(B, 1, 2, 2), y, torch.arange(B), epoch=epoch, teacher=teacher)


def zero(logits: Tensor, batch: Batch) -> Tensor:
    return torch.zeros(len(batch))


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return -(batch.y * logits.log_softmax(1)).sum(1)


def term(name: str, epochs: float = 1, base=zero, **options):
    return distillations[name].build(base=base, epochs=epochs, **options)


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(z) for z in logits]
    return [p / sum(powers) for p in powers]


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p || q)"""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def softened(logits: Tensor, T: float) -> list[list[float]]:
    return [softmax([z / T for z in row]) for row in logits.double().tolist()]


@pytest.mark.parametrize("T", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
def test_kd_is_the_weighted_sum_of_the_base_loss_and_the_divergence_of_softened_outputs(T, alpha):
    student, batch = batch_of()
    hard = cross_entropy(student.double(), batch)
    outputs = zip(softened(batch.teacher, T), softened(student, T), strict=True)
    soft = [divergence(p, q) for p, q in outputs]
    expected = (1 - alpha) * hard + alpha * T**2 * torch.tensor(soft, dtype=torch.float64)
    found = term("kd", base=cross_entropy, temperature=T, alpha=alpha)(student, batch)
    # T^2 multiplies the rounding of the logarithms: some 2^-20, of float32 numbers up to 4.
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=T**2 * 2**-20)


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
    # The sum over samples leaves each sample its own gradient; the loss is computed in float32.
    (gradient,) = torch.autograd.grad(loss(z, batch.replace(teacher=teacher)).sum(), z)
    torch.testing.assert_close(gradient, (z.detach() - teacher) / K, atol=5e-3, rtol=0)


@pytest.mark.parametrize("name", distillations.names())
def test_a_student_equal_to_its_teacher_gets_no_gradient(name):
    student, batch = batch_of()
    options = {"alpha": 1.0, "temperature": 1.0}
    z = student.clone().requires_grad_()
    loss = term(name, **options)(z, batch.replace(teacher=student))
    torch.testing.assert_close(loss.detach(), torch.zeros(B), atol=1e-5, rtol=0)
    loss.sum().backward()
    # Probabilities of float32 that sum to 1 up to some 16 roundings of 2^-24, times dkd's beta of 8.
    torch.testing.assert_close(z.grad, torch.zeros(B, K), atol=8 * 16 * 2**-24, rtol=0)
    z.grad = None
    term(name, **options)(z, batch).sum().backward()  # a different teacher gives one
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
def test_kd_is_tckd_plus_nckd_weighted_by_one_minus_the_teachers_target_probability(scale):
    # Zhao et al. 2022, section 3.1: KD = TCKD + (1 - p_t) NCKD.
    student, batch = batch_of(scale=scale)
    target = batch.y.argmax(1, keepdim=True)
    tckd, nckd = parts(student, batch.teacher, target)
    miss = 1 - batch.teacher.double().softmax(1).gather(1, target)[:, 0]
    kd = term("kd", temperature=1.0, alpha=1.0)(student, batch)
    torch.testing.assert_close(tckd + miss * nckd, kd.double(), rtol=1e-4, atol=1e-4)


def test_dkd_stays_finite_where_a_network_is_certain():
    student, batch = batch_of(scale=300.0)
    z = student.requires_grad_()
    loss = term("dkd", warmup=0)(z, batch)
    loss.sum().backward()
    assert loss.isfinite().all() and z.grad.isfinite().all()


@pytest.mark.parametrize(("warmup", "epochs"), [(20, 240), (20 / 240, 240), (0.5, 40)])
def test_the_weight_of_dkd_rises_linearly_over_its_warmup(warmup, epochs):
    student, batch = batch_of()
    full = term("dkd", warmup=0)(student, batch)
    loss = term("dkd", epochs=epochs, warmup=warmup)
    for epoch, weight in ((0, 1 / 20), (9, 0.5), (19, 1), (30, 1)):
        torch.testing.assert_close(loss(student, batch.replace(epoch=epoch)), weight * full)


def test_dkd_takes_the_class_with_the_largest_weight_of_a_mixed_target():
    student, batch = batch_of()
    mixed = batch.replace(y=torch.lerp(batch.y.roll(1, 0), batch.y, 0.6))
    loss = term("dkd", warmup=0)
    assert torch.equal(loss(student, batch), loss(student, mixed))


@pytest.mark.parametrize("name", distillations.names())
def test_a_distillation_of_plain_tensors_equals_that_of_the_batch(name):
    student, batch = batch_of(epoch=3)
    loss = term(name, base=cross_entropy, epochs=240)
    known = {"teacher": batch.teacher, "epoch": 3}
    assert torch.equal(loss(student, batch.y, **known), loss(student, batch))
    assert torch.equal(loss(student, batch.y.argmax(1), **known), loss(student, batch))
