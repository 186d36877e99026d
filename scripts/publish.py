"""`python -m scripts.publish RUN -o FOLDER`: a folder with a trained network for the Hugging Face hub.

model.safetensors  the weights
config.json        for timm, where the network is one of timm's; else what a user needs to know
README.md          a model card, from the record of the run
last.pt            only of other networks: a checkpoint of this project without the state of the optimizer

--upload owner/name also uploads the folder, with the token of `hf auth login` or $HF_TOKEN, to the hub or to
$HF_ENDPOINT. This program never reads the token.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib.core.errors import BadInput, exit_code
from lib.core.files import write_atomic
from lib.factory.load import TrainedRun, load
from lib.models.timm_adapter import first_convolution
from lib.store import checkpoint
from lib.store.run_folder import read_result

from .arguments import Parser, file_path
from .export import describe, dump_safetensors, metadata_text, standalone
from .model_card import model_card


def publish(options: argparse.Namespace) -> None:
    folder: Path = options.output
    run = load(options.run, device="cpu", root=options.root)
    network, name = run.network(options.network), options.network
    if name not in ("last", *run.checkpoint.averages):
        raise BadInput(f"{name} is a test-time view; publish its network, {name.partition('_tta')[0]}")
    record = read_result(run.checkpoint.path.parent)
    if record is None or record["status"] != "ok":
        raise BadInput(f"{options.run} is not a complete run; a model card is made from its result.json")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} exists already; give a new folder with -o")
    facts, theirs = describe(run, name), timm_arguments(run, network)
    config = timm_config(run, network, *theirs) if theirs else facts
    weights = dump_safetensors(standalone(network, run.data), None, metadata_text(facts))
    if not theirs:
        checkpoint.write(
            folder / "last.pt",
            network.state_dict(),
            step=run.checkpoint.step,
            total=run.checkpoint.step,
            config=run.checkpoint.config.tree(),
            code=run.checkpoint.code,
            data=run.data,
        )
    card = model_card(run, name, record, options.upload, options.license, is_timm=theirs is not None)
    write_atomic(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_atomic(folder / "README.md", card)
    write_atomic(folder / "model.safetensors", weights)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if options.upload:
        print(upload(folder, options.upload, options.private))


def timm_arguments(run: TrainedRun, network: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """The name and the arguments with which timm builds a network of the same structure, if it can."""
    model = run.config.chosen["model"]
    if model.entry.form != "timm/<name>":
        return None
    import timm

    name, (channels, size, _) = model.entry.arguments["name"], run.data.shape
    base = {"num_classes": len(run.classes), "in_chans": channels}
    rates = {key: rate for key, rate in model.options.items() if key.endswith("rate") and rate is not None}
    first = first_convolution(network)
    patch = {"patch_size": first.kernel_size[0]} if first else {}
    for sizes in ({}, {"img_size": size}, {"img_size": size, **patch}):
        arguments = base | rates | sizes
        try:
            with torch.device("meta"):
                other = timm.create_model(name, **arguments)
        except (TypeError, ValueError, AssertionError, RuntimeError):  # it does not take these
            continue
        if structure(other) == structure(network):
            return name, arguments
    return None  # its first layers were changed for small images, or others by surgery


def structure(network: nn.Module) -> tuple[str, dict[str, torch.Size]]:
    """The layers with their settings, and the shapes of all tensors."""
    return str(network), {key: tensor.shape for key, tensor in network.state_dict().items()}


def timm_config(run: TrainedRun, network: nn.Module, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """config.json as timm reads it."""
    known = network.pretrained_cfg
    pretrained = {
        "input_size": run.data.shape,
        "fixed_input_size": "img_size" in arguments,
        "mean": run.data.mean,
        "std": run.data.std,
        "crop_pct": run.data.test_crop,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "num_classes": len(run.classes),
        "pool_size": None,
        "classifier": known.get("classifier"),
        # timm would convert a first layer of other than three channels as if it had three.
        "first_conv": known.get("first_conv") if run.data.shape[0] == 3 else None,
    }
    return {
        "architecture": name,
        "num_classes": len(run.classes),
        "num_features": network.num_features,
        "label_names": list(run.classes),
        "model_args": {key: value for key, value in arguments.items() if key != "num_classes"},
        "pretrained_cfg": pretrained,
    }


def upload(folder: Path, repository: str, private: bool) -> str:
    """Upload the folder to the hub; returns the address.

    Raises:
        BadInput: the hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add a trained network")
    except (HfHubHTTPError, HFValidationError, OSError, ConnectionError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = f"{type(error).__name__}, status {status}" if status else str(error).partition("\n")[0]
        raise BadInput(
            f"{repository} cannot be uploaded to {api.endpoint} ({reason}); {folder} is complete. Log in "
            "with `hf auth login`, or set HF_TOKEN, and upload it with `hf upload`"
        ) from error
    return str(address)


def main(argv: list[str]) -> int:
    """Run one command line; returns the exit code."""
    parser = Parser(prog="python -m scripts.publish", description=__doc__.partition("\n\n")[0])
    parser.add_argument("run", type=file_path, help="a run folder")
    parser.add_argument(
        "-o", "--output", type=file_path, required=True, metavar="FOLDER", help="a new folder"
    )
    parser.add_argument("--network", default="last", help="last, or an average such as ema (last)")
    parser.add_argument("--license", default="mit", help="licence of the weights, as the hub names it (mit)")
    parser.add_argument("--upload", metavar="OWNER/NAME", help="upload the folder to this repository")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--root", type=file_path, help="folder of the data sets; by default that of the run")
    return exit_code(publish, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
