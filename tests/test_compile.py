"""What --compile does before the first step. The compiler itself is torch's: here it only notes the graph."""

import pytest
import torch
from torch import nn

from lib.config.cli import parse
from lib.core.errors import BadInput
from lib.engine.step import Run, train_step
from lib.factory import build, compile_networks

CPU = torch.device("cpu")
LINE = "--model wrn_10_1 --dataset synthetic --data.size 64 --data.image_size 8 --bs 12 --accumulate 2"


@pytest.fixture
def shapes(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the images for which a graph was compiled."""
    found = []

    def backend(graph, inputs):
        found.extend(tuple(t.shape) for t in inputs if t.ndim == 4 and t.shape[1:] == (3, 8, 8))
        return graph.forward

    whole = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: whole(module, backend=backend))
    torch.compiler.reset()
    return found


def built(line: str, notes: list[str], device: torch.device = CPU) -> Run:
    config = parse(line.split()).config()
    run = build(config, device, notes.append)
    compile_networks(run, config.train, notes.append)
    return run


def trained(run: Run) -> list[torch.Tensor]:
    losses = [train_step(run, step) for step in range(2)]
    return [*losses, *run.model.state_dict().values()]


@pytest.mark.parametrize(
    ("tricks", "images"),
    # Six images are a micro-batch; of those that a proxy picks, three. The proxy sees a whole batch.
    [("", [6]), ("--sam --ema", [6]), ("--proxy --proxy-model resnet20", [3, 12])],
)
def test_a_compiled_run_learns_the_same_and_is_compiled_before_the_first_step(tricks, images, shapes):
    notes: list[str] = []
    line = f"{LINE} {tricks}"
    compiled = built(f"{line} --compile", notes)
    ready = list(shapes)
    assert all(p.grad is None for p in compiled.params) and not notes
    for mine, other in zip(trained(compiled), trained(built(line, notes)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    assert ready == [(count, 3, 8, 8) for count in images]
    assert "--proxy" in tricks or shapes == ready  # a proxy also looks at a batch without learning from it


def test_a_model_that_does_not_compile_is_trained_uncompiled_with_a_note(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    whole = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: whole(module, backend=broken))
    torch.compiler.reset()
    notes: list[str] = []
    run = built(f"{LINE} --compile", notes)
    (note,) = notes
    assert note.startswith("--compile has no effect") and "no compiler here" in note
    for mine, other in zip(trained(run), trained(built(LINE, notes)), strict=True):
        assert torch.equal(mine, other)


def test_the_mode_is_one_of_torch_s_and_is_unused_without_compile(monkeypatch, shapes):
    modes: list[str] = []
    whole = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: whole(module, mode=modes.append(mode)))
    built(f"{LINE} --compile --compile-mode max-autotune-no-cudagraphs", [])
    assert modes == ["max-autotune-no-cudagraphs"]
    with pytest.raises(BadInput, match="compile_mode must be left out without compile"):
        parse([*LINE.split(), "--compile-mode=reduce-overhead"]).config()


@pytest.mark.gpu
@pytest.mark.parametrize("tricks", ["", "--sam --ema"])
def test_a_cuda_graph_learns_the_same_as_single_kernels(tricks):
    torch.compiler.reset()
    notes: list[str] = []
    line = f"{LINE} {tricks}"
    recorded = built(f"{line} --compile --compile-mode reduce-overhead", notes, torch.device("cuda"))
    assert not notes
    for mine, other in zip(trained(recorded), trained(built(line, notes, torch.device("cuda"))), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)
