"""`python -m scripts.export RUN --to onnx`: export a trained network for use without this project.

The exported network takes float32 images (B, C, H, W) in 0..1, with any number of them, and returns logits
(B, K): its normalisation is a part of it. Only safetensors has the weights alone. Every file has the same
metadata: classes, shape of an image, normalisation, and the recorded accuracy.

Before the file is written, it is compared with the run on the test images, or on random ones where the data
set is not available.
"""

import argparse
import contextlib
import copy
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lib.augment.pipeline import Normalize
from lib.core.contracts import Count
from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic
from lib.core.rng import Rng
from lib.data.base import DataSpec, Split
from lib.data.images import Images
from lib.engine.teacher import Renormalized
from lib.factory import build_normalize
from lib.factory.load import TrainedRun, load
from lib.run.predict import evaluate
from lib.store.run_folder import read_result

from .arguments import Parser, file_path, within

BATCHES = (1, 2, 5)  # sizes that the exported network is tried with; 2 is that of the example
NOISE = 200  # random images, where the data set is not available
TOLERANCE = 1e-3  # of the largest logit; the order of float32 sums differs between libraries

Function = Callable[[Tensor], Tensor]  # images (B, C, H, W) in 0..1 to logits (B, K)


@dataclass(frozen=True)
class Format:
    """A file format: bytes from a network, and from bytes a function on the CPU to compare with it."""

    suffix: str
    dump: Callable[[nn.Module, Tensor, dict[str, str]], bytes]
    load: Callable[[bytes, nn.Module], Function]


def standalone(model: nn.Module, spec: DataSpec) -> nn.Module:
    """The network for images in 0..1."""
    pixels = Normalize(torch.zeros(spec.shape[0], 1, 1), torch.ones(spec.shape[0], 1, 1))
    return Renormalized(model, here=pixels, there=build_normalize(spec, torch.device("cpu"))).eval()


def dump_onnx(model: nn.Module, example: Tensor, metadata: dict[str, str]) -> bytes:
    # The exporter from torch.export, because that from TorchScript fails for some networks (PoolFormer). It
    # decomposes attention into plain operations, so it must see the memory layout that these return.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        program = torch.onnx.export(
            model, (example,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"], output_names=["logits"],
        )  # fmt: skip
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


def load_onnx(data: bytes, model: nn.Module) -> Function:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def dump_torchscript(model: nn.Module, example: Tensor, metadata: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    traced = torch.jit.trace(model, example, check_trace=False)
    torch.jit.save(traced, buffer, _extra_files={"metadata.json": json.dumps(metadata)})
    return buffer.getvalue()


def load_torchscript(data: bytes, model: nn.Module) -> Function:
    return torch.jit.load(io.BytesIO(data))


def dump_exported(model: nn.Module, example: Tensor, metadata: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, buffer, extra_files={"metadata.json": json.dumps(metadata)})
    return buffer.getvalue()


def load_exported(data: bytes, model: nn.Module) -> Function:
    program = torch.export.load(io.BytesIO(data)).module()
    return lambda images: program(images)  # as a submodule it would refuse `eval`


def dump_safetensors(model: Renormalized, example: Tensor, metadata: dict[str, str]) -> bytes:
    from safetensors.torch import save

    # Copies, because channels_last weights are not contiguous, and some networks share weights.
    weights = model.model.state_dict().items()
    return save({name: w.clone(memory_format=torch.contiguous_format) for name, w in weights}, metadata)


def load_safetensors(data: bytes, model: Renormalized) -> Function:
    from safetensors.torch import load as load_weights

    restored = copy.deepcopy(model)
    restored.model.load_state_dict(load_weights(data))  # which refuses a missing or an unknown weight
    return restored


FORMATS = {
    "onnx": Format("onnx", dump_onnx, load_onnx),
    "torchscript": Format("torchscript.pt", dump_torchscript, load_torchscript),
    "exported": Format("pt2", dump_exported, load_exported),
    "safetensors": Format("safetensors", dump_safetensors, load_safetensors),
}


@dataclass(frozen=True)
class Parity:
    """A comparison of an export with the run."""

    images: int
    difference: float  # the largest of a logit
    scale: float  # the largest logit
    accuracy: tuple[float, float] | None  # percent, of the run and of the export; None for random images

    def __str__(self) -> str:
        difference = f"logits differ by at most {self.difference:.1e}, the largest is {self.scale:.3g}"
        if self.accuracy is None:
            return f"on {self.images:,} random images {difference}"
        run, export = self.accuracy
        accuracy = f"the run has {run:.2f} % accuracy, the export {export:.2f} %"
        return f"on {self.images:,} test images {difference}; {accuracy}"


class _Module(nn.Module):
    """A function as a network, for `evaluate`."""

    def __init__(self, function: Function):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def compare(model: nn.Module, function: Function, images: Images, known: bool) -> Parity:
    """Compare an exported network with the network of a run.

    Args:
        model: takes images as `images` normalises them.
        function: takes images in 0..1.
        known: whether the images have their true classes.
    Raises:
        BadInput: they differ by more than rounding, or the export does not take any batch size.
    """
    pixels = replace(images, normalize=lambda x: x.float() / 255)
    with torch.inference_mode():
        for size in BATCHES:
            (x,) = pixels.split.read([slice(0, size)])
            try:
                function(pixels.normalize(x))
            except Exception as error:  # each library has its own
                raise BadInput(f"the export does not take a batch of {size} images: {error}") from error
    run, export = evaluate(model, images), evaluate(_Module(function), pixels)
    parity = Parity(
        images=len(images),
        difference=(run.logits - export.logits).abs().max().item(),
        scale=run.logits.abs().max().item(),
        accuracy=(run.accuracy, export.accuracy) if known else None,
    )
    if not parity.difference <= TOLERANCE * parity.scale:
        raise BadInput(f"the export is not the network of the run: {parity}")
    return parity


def images_of(run: TrainedRun, count: int | None) -> tuple[Images, str]:
    """The first test images of a run and "", or random images and the reason."""
    try:
        return run.images["test"].take(slice(0, count)), ""
    except BadInput as error:
        x = Rng("export").integers(0, 256, NOISE, *run.data.shape, like=torch.empty(0)).to(torch.uint8)
        return Images(Split(x, torch.zeros(NOISE, dtype=torch.int64)), run.normalize), str(error)


def describe(run: TrainedRun, network: str) -> dict[str, Any]:
    """What a user of the network needs to know."""
    prefix, config = "" if network == "last" else f"{network}_", run.config
    result = read_result(run.checkpoint.path.parent) or {}
    return {
        "model": config.chosen["model"].entry.name,
        "dataset": config.chosen["data"].entry.name,
        "network": network,
        "classes": list(run.classes),
        "shape": list(run.data.shape),
        "mean": list(run.data.mean),
        "std": list(run.data.std),
        "test_accuracy": result.get(f"{prefix}test_accuracy"),
        "step": run.checkpoint.step,
        "code": run.checkpoint.code,
    }


def metadata_text(facts: dict[str, Any]) -> dict[str, str]:
    """The facts as texts, which is all that file formats take; others than texts are JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and notes of the exporters, which concern their own development."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def export(options: argparse.Namespace) -> None:
    form = FORMATS[options.to]
    run = load(options.run, device="cpu", root=options.root)
    model = standalone(run.network(options.network), run.data)
    path = options.output or run.checkpoint.path.with_name(f"{options.network}.{form.suffix}")
    metadata = metadata_text(describe(run, options.network))
    images, missing = images_of(run, options.images)
    try:
        with quiet():
            data = form.dump(model, torch.zeros(2, *run.data.shape), metadata)
            function = form.load(data, model)
    except ImportError as error:
        raise BadInput(f"--to {options.to} needs {error.name}: pip install '.[export]'") from error
    except Exception as error:  # an exporter has many ways to refuse a network
        raise BadInput(f"this network cannot be exported with --to {options.to}: {error}") from error
    parity = compare(run.network(options.network), function, images, known=not missing)
    write_atomic(path, data)
    if missing:
        print(f"note: compared on random images, because the test images are missing: {missing}")
    print(f"{path}: {len(data) / 1e6:.1f} MB; {parity}")


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    parser = Parser(prog="python -m scripts.export", description=__doc__.partition("\n\n")[2])
    parser.add_argument("run", type=file_path, help="a run folder or a checkpoint")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format")
    parser.add_argument("-o", "--output", type=file_path, metavar="FILE", help="by default in the run folder")
    parser.add_argument(
        "--network", default="last", help="last, an average such as ema, or test-time views such as tta_flip"
    )
    parser.add_argument(
        "--images", type=within(Count), metavar="N", help="compare on the first N test images (all)"
    )
    parser.add_argument("--root", type=file_path, help="folder of the data sets; by default that of the run")
    return exit_code(export, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
