"""The loader by itself: its batches are those of train.py, and what an epoch of chosen images is."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from examples import data_selection, own_loop
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.errors import BadInput
from lib.core.registry import augmentations
from lib.data.base import Split
from lib.data.subset import ImageSubset
from lib.engine.step import train_step
from lib.factory import build
from lib.loader import Images, Loader, evaluate, predict

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
DATA = {"size": 26, "classes": 4, "image_size": 16}  # two images fill no batch of 8
SMALL = "--dataset synthetic --data.size 26 --data.classes 4 --data.image-size 16 --bs 8 --epochs 2 --seed 3"
TINY = "--model wrn_10_1 --schedule constant"


def loader_of(**settings) -> Loader:
    return Loader("synthetic", **{"batch_size": 8, "seed": 3, "device": CPU, "epochs": 2, **DATA, **settings})


def trained_on(line: str) -> list[tuple[Tensor, Batch, Tensor]]:
    """The logits, batch and loss (B,) of each step that train.py takes in two epochs."""
    run, seen = build(parse(f"{SMALL} {TINY} {line}".split()).config(), CPU, note=print), []
    loss = run.learning.loss

    def watched(logits: Tensor, batch: Batch) -> Tensor:
        out = loss(logits, batch)
        seen.append((logits.detach(), batch, out.detach()))
        return out

    run.learning.loss = watched
    for step in range(run.total):
        train_step(run, step)
    return seen


def batches(loader: Loader, *epochs: int) -> list[Batch]:
    return [batch for epoch in epochs for batch in loader.epoch(epoch)]


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, field), getattr(other, field)) for field in ("x", "y", "index"))


def all_same(ones: list[Batch], others: list[Batch]) -> bool:
    return len(ones) == len(others) > 0 and all(map(same, ones, others))


# What is written in Python, and on the command line for the same.
SETTINGS = {
    "nothing": ({}, ""),
    "none": ({"augment": []}, "--no-crop --no-flip"),
    "those that are usual": ({"augment": ["flip", "crop"]}, ""),
    "a single name": ({"augment": "flip"}, "--no-crop"),
    "an alias": ({"augment": {"lsr": {}}}, "--label-smoothing --no-crop --no-flip"),
    "off": ({"augment": {"crop": False, "flip": True}}, "--no-crop"),
    "a value": ({"augment": {"cutout": 4, "crop": {}, "flip": {}}}, "--cutout 4"),
    "values": (
        {"augment": {"crop": {"padding": 2}, "mixup": {"alpha": 0.5, "prob": 0.5}, "cutmix": {"prob": 0.5}}},
        "--crop-padding 2 --no-flip --mixup-alpha 0.5 --mixup-prob 0.5 --cutmix-prob 0.5",
    ),
    "views": ({"augment": {"augmix": {"jsd": True}}}, "--augmix-jsd True --no-crop --no-flip"),
    "an epoch": ({"augment": {"cutout": {"start": 1}}}, "--cutout-start 1 --no-crop --no-flip"),
    "data": ({"fraction": 0.9, "val": 4, "label_noise": 0.5}, "--fraction 0.9 --val 4 --label-noise 0.5"),
}
# Each alone, beside those that are usual.
SETTINGS |= {name: ({"augment": ["crop", "flip", name]}, f"--{name}") for name in augmentations.names()}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_batches_and_their_losses_are_bit_for_bit_those_that_train_py_trains_on(settings):
    arguments, line = settings
    loader, theirs = loader_of(**arguments), trained_on(line)
    ours = batches(loader, 0, 1)
    assert all_same(ours, [batch for _, batch, _ in theirs])
    for batch, (logits, _, loss) in zip(ours, theirs, strict=True):
        assert torch.equal(loader.loss(logits, batch), loss)


def test_the_images_to_evaluate_on_are_those_of_train_py():
    loader, run = loader_of(val=8), build(parse(f"{SMALL} {TINY} --val 8".split()).config(), CPU, note=print)
    for images, split in ((loader.val, run.splits["val"]), (loader.test, run.splits["test"])):
        assert torch.equal(images.x, split.x) and torch.equal(images.y, split.y)
        assert torch.equal(images.normalize(images.x), run.normalize(split.x))
    assert loader_of().val is None


def test_a_batch_does_not_depend_on_what_was_asked_before():
    loader = loader_of(augment=["crop", "cutmix"])
    late = batches(loader, 5)
    assert all_same(batches(loader, 0, 5)[3:], late)
    assert not all_same(batches(loader, 0), late)
    assert not all_same(batches(loader_of(augment=["crop", "cutmix"], seed=4), 5), late)


def test_a_loop_over_an_epoch_may_build_graphs():
    for batch in loader_of().epoch(0):
        assert torch.is_grad_enabled() and not batch.x.requires_grad


def test_what_fills_no_batch_is_left_out_or_is_one_more_batch():
    dropped, whole = loader_of(), loader_of(drop_last=False)
    assert [len(batch.x) for batch in batches(dropped, 0)] == [8, 8, 8] and len(dropped) == 3
    assert [len(batch.x) for batch in batches(whole, 0)] == [8, 8, 8, 2] and len(whole) == 4
    assert torch.equal(places(whole, 0).sort().values, torch.arange(26))
    assert all_same(batches(dropped, 0), batches(whole, 0)[:3])


def places(loader: Loader, *epochs: int) -> Tensor:
    return torch.cat([batch.index for batch in batches(loader, *epochs)])


@pytest.mark.parametrize("drop_last", [True, False])
def test_kept_images_are_an_epoch_of_a_training_set_that_has_no_others(drop_last):
    # A fraction of the data set is such a set. Half of 26 images: where they lie, their pixels tell.
    fewer, loader = loader_of(fraction=0.5, drop_last=drop_last), loader_of(drop_last=drop_last)
    mask = (loader.train.x[:, None] == fewer.train.x).flatten(2).all(2).any(1)
    assert mask.sum() == 13
    loader.keep(mask)
    ours, theirs = batches(loader, 0, 3), batches(fewer, 0, 3)
    assert len(loader) == len(fewer) == (1 if drop_last else 2)
    kept = mask.nonzero()[:, 0]
    assert all_same(ours, [batch.replace(index=kept[batch.index]) for batch in theirs])


def test_every_kept_image_comes_exactly_once_an_epoch():
    loader, kept = loader_of(drop_last=False), [3, 25, 0, 7, 8, 9, 21, 22, 11, 12]
    loader.keep(kept)
    for epoch in range(3):
        assert places(loader, epoch).sort().values.tolist() == sorted(kept)
    assert places(loader, 0).tolist() != places(loader, 1).tolist()
    loader.keep(None)
    assert all_same(batches(loader, 4), batches(loader_of(drop_last=False), 4))


def test_a_mask_and_places_say_the_same_from_whatever_they_are():
    mask = torch.arange(26) % 3 > 0
    forms = (
        mask,
        mask.numpy(),
        mask.tolist(),
        mask.nonzero()[:, 0].flip(0),
        mask.nonzero()[:, 0].int().numpy(),
    )
    loaders = [loader_of() for _ in forms]
    for loader, form in zip(loaders, forms, strict=True):
        loader.keep(form)
        assert all_same(batches(loader, 1), batches(loaders[0], 1))


def test_an_epoch_that_was_asked_for_stays_what_it_was():
    loader, expected = loader_of(), batches(loader_of(), 0)
    epoch = loader.epoch(0)
    loader.keep(range(8))
    loader.weigh(torch.arange(26))
    assert all_same(list(epoch), expected)
    assert len(batches(loader, 0)) == 1


def test_equal_weights_are_none():
    loader, plain = loader_of(), loader_of()
    for weight in (1, 0.1, 1e-30, 3e30):
        loader.weigh([weight] * 26)
        assert all_same(batches(loader, 0, 1), batches(plain, 0, 1))


def draws(selection: ImageSubset, epochs: int) -> Tensor:
    """(epochs, N) how often each image is drawn."""
    return torch.stack([selection.drawn(3, e).bincount(minlength=selection.size) for e in range(epochs)])


def test_of_two_images_the_lighter_one_is_drawn_in_its_share_of_the_epochs():
    times = draws(ImageSubset.everything(2).weighing([9, 1]), 500)  # 1.8 and 0.2 of two draws
    assert (times.sum(1) == 2).all() and set(times[:, 1].tolist()) == {0, 1}
    assert times[:, 1].double().mean().item() == pytest.approx(0.2, abs=5 * 0.4 / 500**0.5)


def test_an_image_is_drawn_as_often_as_its_share_says_rounded_down_or_up():
    weights = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    weights[7] = 0
    selection = ImageSubset.everything(40).keeping(range(35), least=1).weighing(weights)
    expected = 35 * weights / weights[:35].sum()
    expected[35:] = 0
    times = draws(selection, 500)
    assert (times.sum(1) == 35).all()
    assert (times >= expected.floor()).all() and (times <= expected.ceil()).all()
    # A number that is either of two neighbours has a variance of at most 1/4: five standard errors.
    torch.testing.assert_close(times.double().mean(0), expected, atol=5 * 0.5 / 500**0.5, rtol=0)


@pytest.mark.parametrize("start", [None, 0, 999_999])
def test_a_share_that_is_a_whole_number_is_met_exactly_wherever_the_marks_begin(start, monkeypatch):
    if start is not None:
        monkeypatch.setattr("random.Random.randrange", lambda self, stop: start)
    shares = torch.tensor([1, 3, 0, 1, 2, 1, 0, 0] * 6000).double()
    for unit in (1, 0.1, 1 / 3, 1e-20):
        assert (draws(ImageSubset.everything(48_000).weighing(shares * unit), 3) == shares).all()


def test_the_draws_of_one_image_are_spread_over_the_epoch():
    loader = Loader("digits", batch_size=64, device=CPU)
    weights = torch.ones(1438)
    weights[:10] = 50
    loader.weigh(weights)
    first = torch.stack([(batch.index < 10).sum() for batch in loader.epoch(0)]).double()
    assert 12 < first.mean() < 20 and first.std() < 8  # binomial: 3.5


def test_weights_are_drawn_alike_by_equal_seeds_and_anew_in_each_epoch():
    one, other, third = loader_of(), loader_of(), loader_of(seed=5)
    for loader in (one, other, third):
        loader.weigh(weights := torch.arange(26).double() ** 2)
        weights.fill_(0)  # what becomes of them later does not matter
    assert all_same(batches(one, 0, 1), batches(other, 0, 1)) and len(one) == 3
    assert sorted(places(one, 0)) != sorted(places(one, 1))
    assert sorted(places(one, 0)) != sorted(places(third, 0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"data": "synthetik"}, "data (Loader): unknown dataset 'synthetik': did you mean synthetic?"),
        ({"augment": ["cutot"]}, "unknown setting 'augment.cutot': did you mean augment.cutout"),
        ({"augment": {"cutout": {"siz": 3}}}, "augmentation cutout has no setting 'siz'; did you mean size?"),
        ({"augment": {"cutout": {"size": -3}}}, "cutout.size (Loader): size must be at least 1, got -3"),
        ({"augment": {"cutout": {"size": "x"}}}, "cutout.size (Loader): expected a whole number, got 'x'"),
        ({"augment": {"cutout": {"size": 40, "inside": True}}}, "size must be at most the image's side 16"),
        ({"augment": 3}, "augment must be names, or a mapping of names to settings, got 3"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 27}, "a batch of 27 images cannot be drawn from a training set of 26"),
        ({"noize": 3}, "noize (Loader): dataset synthetic has no setting 'noize'; did you mean noise"),
        ({"fraction": 3}, "fraction must be above 0 and at most 1, got 3"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"device": "gpu"}, "device 'gpu' is none of auto, cpu, cuda"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_wrong_argument_is_refused_in_one_line(arguments, said):
    with pytest.raises((BadInput, ValueError), match=re.escape(said)) as refused:
        Loader(**{"data": "synthetic", "batch_size": 8, "device": "cpu", **DATA, **arguments})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("method", "value", "said"),
    [
        ("keep", [True] * 25, "images must be a mask over 26 images, got 25"),
        ("keep", [0.5] * 26, "images must be a mask of bools, or integers, got torch.float64"),
        ("keep", [1] * 26, "images must be a mask of bools, or distinct indices, got 1"),
        ("keep", range(1, 27), "images must be indices from 0 to 25, got 26"),
        ("keep", [-1, *range(8)], "images must be indices from 0 to 25, got -1"),
        ("keep", torch.ones(26, 1) > 0, "images must be a mask or indices, in one dimension, got (26, 1)"),
        ("keep", [], "images must be at least 8, for one batch, got 0"),
        ("keep", range(7), "images must be at least 8, for one batch, got 7"),
        ("keep", "all", "images must be a tensor, an array or a list, got 'all'"),
        ("keep", range(8, 18), "weights must be of a finite sum above 0 on the images kept, got 0.0"),
        ("weigh", [1.0] * 25, "weights must be 26 numbers, one per image, got (25,)"),
        ("weigh", [1.0] * 25 + [-2], "weights must be finite and at least 0, got -2.0"),
        ("weigh", [1.0] * 25 + [float("nan")], "weights must be finite and at least 0, got nan"),
        ("weigh", [0] * 26, "weights must be of a finite sum above 0 on the images kept, got 0"),
        (
            "weigh",
            torch.full((26,), 1e308, dtype=torch.float64),
            "weights must be of a finite sum above 0 on the images kept, got inf",
        ),
        ("epoch", -1, "number must be a whole number from 0, got -1"),
        ("epoch", 0.5, "number must be a whole number from 0, got 0.5"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_choice_is_refused_and_changes_nothing(method, value, said):
    loader = loader_of()
    loader.weigh([1] * 8 + [0] * 18)
    before = batches(loader, 0)
    with pytest.raises(ValueError, match=re.escape(said)):
        getattr(loader, method)(value)
    assert all_same(batches(loader, 0), before)


class Linear(nn.Module):
    """Logits that are products of the pixels with fixed numbers; a part of it stays in eval mode."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 3 * 256 * 4).sin().view(768, 4))
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x).flatten(1) @ self.weight


def test_predictions_are_those_of_the_normalised_images_in_their_order():
    loader, model = loader_of(size=1100), Linear()  # more than a batch of evaluation
    x = loader.train.x.double() / 255
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True, correction=0)
    logits = x.flatten(1) @ model.weight.detach().double()
    p, found = predict(model, loader.train), evaluate(model, loader.train)
    torch.testing.assert_close(p.double(), logits.softmax(1), atol=1e-4, rtol=0)
    accuracy = 100 * (logits.argmax(1) == loader.train.y).double().mean().item()
    top = logits.topk(2).values
    ties = (top[:, 0] - top[:, 1] < 1e-4).double().mean().item()  # float32 may decide these differently
    assert found.accuracy == pytest.approx(accuracy, abs=100 * ties + 1e-9) and ties < 0.01
    assert found.loss == pytest.approx(F.cross_entropy(logits, loader.train.y).item(), rel=1e-4)
    torch.testing.assert_close(predict(model, loader.train.take(torch.tensor([70, 3]))), p[[70, 3]])


def test_a_model_is_left_in_its_modes_and_logits_may_take_part_in_a_gradient():
    loader, model = loader_of(), Linear()
    logits = evaluate(model, loader.test).logits
    assert model.training and not model.frozen.training
    weight = torch.ones(4, requires_grad=True)
    (logits * weight).sum().backward()
    torch.testing.assert_close(weight.grad, logits.sum(0))


def test_a_precision_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16, fp16, got 'fp8'"):
        predict(Linear(), loader_of().test, "fp8")


def test_the_code_of_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "docs/loader.md").read_text(), re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/loader.md", "exec"), names)
    assert len(blocks) == 6 and names["found"].logits.shape == (359, 10)


def test_the_loop_of_ones_own_learns(capsys):
    assert own_loop.main(["--data", "synthetic", "--width", "4", "--epochs", "2", "--device", "cpu"]) == 0
    *epochs, last = capsys.readouterr().out.splitlines()[1:]
    assert len(epochs) == 2 and float(re.search(r"accuracy ([\d.]+) %", last)[1]) > 60


def test_a_wrong_argument_of_an_example_is_one_line(capsys):
    assert own_loop.main(["--data", "digit"]) == 2
    assert data_selection.main(["--share", "2"]) == 2
    assert re.fullmatch(r"error: .+ digits\?\nerror: --share must .+\n", capsys.readouterr().err)


def test_confidence_is_the_log_probability_of_the_true_class():
    images = Images(
        Split(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1])), torch.Tensor.float
    )
    logits = torch.tensor([[40.0, 0], [40, 0], [0, 0]])
    model = type("Fixed", (nn.Module,), {"forward": lambda self, x: logits})()
    found = data_selection.confidence(model, images)
    torch.testing.assert_close(found, torch.tensor([-4.248354e-18, -40, -0.693147181]).double())


def test_the_experiment_trains_on_all_on_some_and_on_the_least_confident(monkeypatch, capsys):
    kept, models = [], []

    def train(model: nn.Module, loader: Loader, epochs: int, say: object) -> None:
        own_loop.train(model, loader, epochs, say=say)
        kept.append(loader._subset.kept)
        models.append(model)

    monkeypatch.setattr(data_selection, "train", train)
    line = "--data synthetic --width 2 --epochs 1 --batch-size 64 --seeds 2 --fraction 0.2 --device cpu"
    assert data_selection.main(line.split()) == 0
    assert list(map(len, kept)) == 2 * [205, 123, 123]
    loader = Loader("synthetic", fraction=0.2, device="cpu", batch_size=64)
    for least, model in ((kept[2], models[0]), (kept[5], models[3])):
        p = predict(model, loader.train).gather(1, loader.train.y[:, None])[:, 0]
        others = torch.ones(205, dtype=torch.bool).index_fill(0, least, False)
        assert p[least].max() <= p[others].min() + 1e-6
    *seeds, _, _, _, _, last = capsys.readouterr().out.splitlines()
    rows = [[float(a) for a in re.findall(r"([\d.]+) %", seed)] for seed in seeds]
    gain = sum(least - at_random for _, at_random, least in rows) / 2
    assert float(re.search(r"([+-][\d.]+) points", last)[1]) == pytest.approx(gain, abs=0.011)


@pytest.mark.gpu
def test_a_gpu_has_the_same_images_and_is_never_waited_for_within_an_epoch():
    weights = torch.arange(26)
    on_gpu, on_cpu = loader_of(device="cuda", augment=[]), loader_of(augment=[])
    for loader in (on_gpu, on_cpu):
        loader.weigh(weights)
        loader.keep(weights > 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = batches(on_gpu, 0, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for one, other in zip(found, batches(on_cpu, 0, 1), strict=True):
        assert torch.equal(one.index.cpu(), other.index) and torch.equal(one.y.cpu(), other.y)
        torch.testing.assert_close(one.x.cpu(), other.x)
