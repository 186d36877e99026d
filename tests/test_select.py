"""Selections: a step learns from the images that they pick, with a network that is trained and saved too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import lib.select.proxy
import train
from lib.config.cli import parse
from lib.core.batch import Batch
from lib.core.dist import SINGLE, World
from lib.core.errors import BadInput
from lib.core.registry import models
from lib.core.rng import Rng
from lib.engine.selection import NetworkSelection
from lib.engine.step import train_step
from lib.factory import build
from lib.factory.device import check_world
from lib.graph.cost import count_macs, count_training
from lib.select.proxy import Proxy, hardest
from lib.store import checkpoint
from scripts.lr_find import restored
from tests.helpers.selection import PROXY, SELECTIONS, SMALL, equal, prepared, run_of, state_of, watch


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_largest_losses_are_picked_in_batch_order_and_the_first_of_equal_ones(count):
    losses = [0.5, 2.0, 0.5, float("nan"), 2.0, 1.0, 0.5, 0.0]
    order = sorted(range(8), key=lambda i: (-99.0 if losses[i] != losses[i] else -losses[i], i))
    assert hardest(torch.tensor(losses), count).tolist() == sorted(order[:count])


def test_all_views_of_an_image_are_picked_together_by_their_mean_loss():
    run = run_of(f"{PROXY} --dual-cutout 4 --proxy-keep 0.25")
    seen, losses, picks = watch(run), [], lib.select.proxy.hardest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lib.select.proxy, "hardest", lambda x, n: losses.append(x) or picks(x, n))
        for step in range(3):
            train_step(run, step)
            assert losses[step].shape == (8,)
            image = losses[step].topk(2).indices.sort().values
            expected = prepared(run, step)[0].unflatten(0, (8, 2))[image].flatten(0, 1)
            assert torch.equal(seen[step].x, expected)
    batch = Batch(torch.empty(9, 1), torch.empty(9, 2), torch.arange(9), views=3)
    assert batch.images == 3 and batch.samples(torch.tensor([0, 2])).tolist() == [0, 1, 2, 6, 7, 8]


@pytest.mark.parametrize("climb", ["", "--sam", "--looksam"])
def test_both_calls_of_the_closure_use_the_same_images(monkeypatch, climb):
    run, calls, picks = run_of(f"{PROXY} {climb}"), [], lib.select.proxy.hardest
    monkeypatch.setattr(lib.select.proxy, "hardest", lambda x, n: calls.append(n) or picks(x, n))
    for step in range(3):
        train_step(run, step)
    assert calls == [4] * 3


def test_teachers_losses_and_micro_batches_see_only_the_picked_images(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    line = f"{SMALL} --model wrn_10_1 --epochs 1 --output-dir taught --no-tensorboard"
    assert train.main(line.split()) == 0
    run = run_of(f"{PROXY} --kd --teacher taught --mixup --label-smoothing --accumulate 3 --ema")
    seen, parts, loss = watch(run), [], run.learning.loss
    run.learning.loss = lambda logits, batch: parts.append(len(batch)) or loss(logits, batch)
    for step in range(2):
        parts.clear()
        assert train_step(run, step).isfinite()
        assert len(seen[step]) == len(seen[step].teacher) == 4
        assert parts == [2, 2]  # micro-batches
        torch.testing.assert_close(seen[step].y.sum(1), torch.ones(4))
    assert run.images == 4


# With everything else


@pytest.mark.parametrize("switched_on", SELECTIONS, ids=str)
def test_a_selection_changes_neither_initial_weights_nor_random_draws(switched_on):
    options = " ".join(f"{key}={value}" for key, value in switched_on.items())
    bare, picking = (run_of(f"--model resnet20 --mixup --cutout 4 {o}") for o in ("", options))
    assert not bare.selections and bare.images == 8
    assert all(map(torch.equal, bare.model.state_dict().values(), picking.model.state_dict().values()))
    for step in (0, 7):
        assert equal([*prepared(bare, step)], [*prepared(picking, step)])


@pytest.mark.parametrize("how", ["", "--precision bf16 --sam --clip 0.5", "--precision fp16 --lookahead"])
@pytest.mark.parametrize("switched_on", SELECTIONS, ids=str)
def test_a_resumed_run_picks_the_same_images(tmp_path, switched_on, how):
    options = " ".join(f"{key}={value}" for key, value in switched_on.items())
    line = f"--model resnet20 {options} --cutmix --epochs 2 {how}"
    whole, first, again, path = *(run_of(line) for _ in range(3)), tmp_path / "last.pt"
    for step in range(7):
        train_step(whole, step)
    for step in range(5):  # after a step of the small network, and before its next one
        train_step(first, step)
    checkpoint.save(path, first, 5, {}, None, "")
    assert not equal(state_of(first), state_of(again))
    checkpoint.restore(again, checkpoint.load(path), path)
    torch.manual_seed(99)
    for step in range(5, 7):
        assert train_step(again, step).isfinite()
    assert equal(state_of(again), state_of(whole))


def test_a_checkpoint_without_the_selection_is_refused(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(path, run_of("--model resnet20"), 1, {}, None, "")
    with pytest.raises(BadInput, match="does not belong to this run"):
        checkpoint.restore(run_of(), checkpoint.load(path), path)


def test_the_noise_of_the_proxy_is_a_function_of_the_step(monkeypatch):
    seen, picks = [], lib.select.proxy.hardest
    monkeypatch.setattr(lib.select.proxy, "hardest", lambda x, n: seen.append(x) or picks(x, n))
    for seed in (0, 99):
        run = run_of("--model resnet20 --proxy-model cct_2 --proxy-every 3")
        torch.manual_seed(seed)
        for step in (1, 2, 3):  # the first two only look
            train_step(run, step)
    assert equal(seen[:3], seen[3:])
    assert len({x.sum().item() for x in seen}) == 3


def test_the_proxy_has_the_recipe_without_surgery_averages_and_freezing():
    line = "--model airbench93 --model.start muon --stem-epochs 0.5 --stem-falls True "
    line += "--whitening --orthogonal --dropout 0.5 --ema --optim muon --optim.rest sgd --lookahead --proxy"
    run = run_of(line, side=16)
    small = run.selections["proxy"].learning
    assert type(small.optimizer) is type(run.optimizer)
    assert not any("learns_until" in group for group in small.optimizer.param_groups)
    assert not any(isinstance(m, nn.Dropout) for m in small.model.modules())
    assert torch.equal(small.model.whiten.weight, run.model.whiten.weight)  # of the same images
    identity = nn.init.dirac_(torch.empty(24, 24, 3, 3))  # as its author has it, for the first filters
    assert torch.equal(small.model.groups[0].halve[0].weight[:24], identity)
    assert not torch.equal(run.model.groups[0].halve[0].weight[:24], identity)
    assert (small.model.logit_scale, run.model.logit_scale) == (1 / 64, 1 / 128)  # both start as for Muon
    assert (small.accumulate, small.world) == (1, SINGLE)
    assert run.learners == [run.learning, small]


def test_the_proxy_sees_progressively_resized_images():
    line = "--progressive-resizing --epochs 2 --proxy-model wrn_10_1 --model resnet20"
    run, sizes = run_of(line, side=16), []
    small = run.selections["proxy"].learning.model
    small.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[2:]))
    for step in (0, 9):
        train_step(run, step)
    assert sizes == [(8, 8), (12, 12)]
    with pytest.raises(
        BadInput, match=r"selection proxy: airbench96_proxy cannot take images of \(3, 8, 8\)"
    ):
        run_of(line.replace("wrn_10_1", "airbench96_proxy"), side=16)


def test_only_the_main_process_evaluates_the_network_and_the_others_receive_its_choice(monkeypatch):
    sent, run = [], run_of(PROXY)
    monkeypatch.setattr(World, "broadcast", lambda self, tensors: sent.extend(tensors))
    batch = run.prepare(run.data.at(0), Rng(0, 0, 0))
    selection, before = run.selections["proxy"], state_of(run)
    monkeypatch.setattr(Proxy, "__call__", None)
    monkeypatch.setattr(torch, "empty", lambda *size, **kinds: torch.arange(4))  # as the first one sends them
    second = replace(run, learning=replace(run.learning, world=World(rank=1, size=2)))
    kept = selection(batch, second, 0)
    assert torch.equal(kept.index, batch.index[:4]) and len(sent) == 1
    assert equal(state_of(run), before)


def test_the_picked_images_are_sharded_across_processes():
    def check(line: str, size: int) -> None:
        check_world(parse(f"{SMALL} {PROXY} {line}".split()).config(), World(size=size))

    check("", 4)
    check("--sync-bn", 2)
    with pytest.raises(BadInput, match="the 4 images kept of a batch of 8 images cannot be shared by 5"):
        check("", 5)
    with pytest.raises(BadInput, match=r"the 4 images kept .* cannot be shared equally by 3"):
        check("--sync-bn", 3)


def test_the_lr_finder_restores_the_proxy():
    run = run_of()
    before = state_of(run)
    with restored(run):
        train_step(run, 0)
        assert not equal(state_of(run), before)
    assert equal(state_of(run), before)


@pytest.mark.gpu
@pytest.mark.parametrize("switched_on", SELECTIONS, ids=str)
def test_a_selection_does_not_synchronize_with_the_gpu(switched_on):
    options = " ".join(f"{key}={value}" for key, value in switched_on.items())
    line = f"{SMALL} --model resnet20 --precision bf16 {options}"
    run = build(parse(line.split()).config(), torch.device("cuda"), note=pytest.fail)
    train_step(run, 0)  # chooses kernels, and gets the order of the epoch
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (1, 2, 3, 4):
            train_step(run, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Records


def test_the_record_counts_both_networks_and_only_the_picked_images(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    line = f"{SMALL} {PROXY} --epochs 2 --output-dir run --no-tensorboard".split()
    assert train.main(line) == 0
    rows = [json.loads(row) for row in Path("run/metrics.jsonl").read_text().splitlines()]
    large, small = (
        models[name].build(num_classes=4, in_channels=3, image_size=8) for name in ("resnet20", "wrn_10_1")
    )
    shape = (3, 8, 8)
    own = 5 * 4 * count_training(large, shape)  # steps and images
    for row, taken in zip(rows, (3, 2), strict=True):  # of ten steps the even ones
        other = taken * 8 * count_training(small, shape) + (5 - taken) * 8 * 2 * count_macs(small, shape)
        assert row["flops"] == own + other
        assert row["images_per_second"] == pytest.approx(5 * 4 / row["seconds_train"])
        assert 0 < row["seconds_select"] < row["seconds_train"]
    result = json.loads(Path("run/result.json").read_text())
    assert result["train_flops"] == sum(row["flops"] for row in rows)
    assert result["seconds"]["select"] == pytest.approx(sum(row["seconds_select"] for row in rows))
    assert result["images_per_second"] == pytest.approx(10 * 4 / result["seconds"]["train"])
    assert result["parameters"] == sum(p.numel() for p in large.parameters())


def test_a_proxy_that_diverges_ends_the_run(tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    select = NetworkSelection.__call__

    def spoilt(self, batch, run, step):
        found = select(self, batch, run, step)
        with torch.no_grad():
            next(self.learning.model.parameters()).mul_(float("nan") if step == 3 else 1)
        return found

    monkeypatch.setattr(NetworkSelection, "__call__", spoilt)
    train.main(f"{SMALL} {PROXY} --epochs 2 --output-dir run --no-tensorboard".split())
    assert json.loads(Path("run/result.json").read_text())["status"] == "diverged"
    assert not Path("run/last.pt").exists()


def test_a_dry_run_shows_how_many_images_are_picked(capsys):
    assert train.main(f"{SMALL} {PROXY} --proxy-keep 0.25 --dry-run".split()) == 0
    assert "normalize > proxy (2 of 8 images)\n" in capsys.readouterr().out
