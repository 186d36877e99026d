"""A model card (Mitchell et al. 2019, arXiv:1810.03993) of a trained network, from the record of its run."""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from lib.config.schema import to_yaml
from lib.factory.load import TrainedRun
from lib.graph.cost import count_macs
from lib.report.records import read_records
from lib.report.statistics import student
from lib.report.text import duration, number, petaflop


def model_card(
    run: TrainedRun, network: str, record: dict[str, Any], repository: str | None, license: str, is_timm: bool
) -> str:
    """README.md.

    Args:
        record: result.json.
        repository: its name on the hub, if it is known.
        is_timm: whether timm can load it.
    """
    name, dataset = record["model"].removeprefix("timm/"), record["dataset"]
    prefix = "" if network == "last" else f"{network}_"
    data = ModelCardData(
        license=license,
        library_name="timm" if is_timm else "pytorch",
        pipeline_tag="image-classification",
        tags=["image-classification", "cifar-tricks-zoo"],
        datasets=None if ":" in dataset else [dataset],
        metrics=["accuracy"],
        model_name=f"{name} on {dataset}",
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=dataset,
                dataset_name=dataset,
                dataset_split="test",
                metric_type="accuracy",
                metric_value=record[f"{prefix}test_accuracy"] / 100,
            )
        ],
    )
    weights = "of the last epoch" if network == "last" else f"of the average {network} in the last epoch"
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name} on {dataset}",
        f"An image classifier with {len(run.classes)} classes, with the weights {weights}. "
        "This card is made from the record of the run.",
        "## Results",
        _table(_results(run, record, prefix)),
        "## Use",
        _usage(run, repository or "FOLDER", bool(repository), is_timm),
        "## Training",
        f"```bash\n{_command(record)}\n```",
        "The settings that differ from the defaults:",
        f"```yaml\n{to_yaml(record['config_diff']).strip()}\n```",
        "## Data",
        _data(run, record),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(run, record, prefix)),
        "## Licence",
        f"The weights: {license}. The images have the licence of their data set.",
    ]
    return "\n\n".join(parts) + "\n"


def _results(run: TrainedRun, record: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    accuracy, seconds = record[f"{prefix}test_accuracy"], record["seconds"]["train"]
    images = _test_images(run)
    rows = [("test accuracy, last epoch", f"{accuracy:.2f} %{_interval(accuracy, images)}")]
    values = _seeds(run, record, f"{prefix}test_accuracy")
    if len(values) > 1:
        found = student(values)
        interval = f"95 % interval {found.low:.2f} to {found.high:.2f}" if found.low == found.low else ""
        rows.append((f"mean of n = {len(values)} seeds", f"{found.mean:.2f} % {interval}".strip()))
    else:
        rows.append(("seeds", f"n = 1 (seed {record['seed']})"))
    environment = record["environment"]
    macs = count_macs(run.models["last"], run.data.shape)
    return [
        *rows,
        ("top-5 accuracy", number(record.get(f"{prefix}test_top5"), unit=" %")),
        ("expected calibration error", number(record.get(f"{prefix}test_ece"), unit=" %")),
        ("parameters", f"{record['parameters']:,}"),
        ("FLOPs of an image", f"{2 * macs / 1e9:.3g} GFLOP ({macs / 1e6:.4g} M multiply-accumulates)"),
        ("FLOPs of the training", f"{petaflop(record.get('train_flops'))} PFLOP"),
        ("training", f"{record['epochs']:g} epochs, {record['steps']:,} steps, {duration(seconds)}"),
        ("device", environment.get("cpu") if environment["device"] == "cpu" else environment["device"]),
        ("code", environment["code"]),
    ]


def _test_images(run: TrainedRun) -> int | None:
    """The number of test images, from the predictions of the run."""
    import numpy as np

    try:
        with np.load(run.checkpoint.path.with_name("predictions.npz")) as arrays:
            return len(arrays["y"])
    except (OSError, ValueError, KeyError):
        return None


def _interval(accuracy: float, images: int | None) -> str:
    """Wilson's interval over test images, as text."""
    if not images:
        return ""
    found = binomtest(round(accuracy / 100 * images), images).proportion_ci(0.95, method="wilson")
    return f" (95 % interval {100 * found.low:.2f} to {100 * found.high:.2f} over {images:,} test images)"


def _seeds(run: TrainedRun, record: dict[str, Any], column: str) -> list[float]:
    """The accuracies of the complete runs of this setting in the folders next to the run's."""
    runs = read_records([run.checkpoint.path.parent.resolve().parent]).runs
    same = [one for one in runs if one.setting == record["config"] and one.status == "ok"]
    return [one.result[column] for one in same if column in one.result]


def _usage(run: TrainedRun, place: str, on_hub: bool, is_timm: bool) -> str:
    channels, height, width = run.data.shape
    pixels = (
        f"The network takes float32 images (B, {channels}, {height}, {width}) in 0..1, normalised with the "
        f"mean {_values(run.data.mean)} and the standard deviation {_values(run.data.std)} of each channel. "
        f"It returns logits (B, {len(run.classes)}), in the order of the classes below."
    )
    if is_timm:
        source = f"hf-hub:{place}" if on_hub else f"local-dir:{place}"
        code = f'import timm\n\nmodel = timm.create_model("{source}", pretrained=True).eval()'
    else:
        folder = f'huggingface_hub.snapshot_download("{place}")' if on_hub else f'"{place}"'
        code = (
            f"import cifar_zoo{', huggingface_hub' if on_hub else ''}\n\nrun = cifar_zoo.load({folder})\n"
            'model = run.network("last")  # normalised images to logits\n'
            'logits = model(run.read("cat.png")[None])'
        )
    return f"{pixels}\n\n```python\n{code}\n```"


def _values(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _command(record: dict[str, Any]) -> str:
    return f"python {record['environment'].get('command') or 'train.py'}"


def _data(run: TrainedRun, record: dict[str, Any]) -> str:
    images = ", ".join(f"{name} {digest}" for name, digest in (record.get("data") or {}).items())
    prints = f" Fingerprints of the images: {images}." if images else ""
    classes = ", ".join(run.classes)
    return f"{record['dataset']}, images of {run.data.shape} (C, H, W).{prints}\n\nClasses: {classes}."


def _limits(run: TrainedRun, record: dict[str, Any], prefix: str) -> list[str]:
    data, settings = run.data, run.config.data
    limits = [
        f"It is trained on images of {record['dataset']} at {data.shape[1]}x{data.shape[2]} pixels; other "
        "images and sizes were not tested. Whatever an image shows, it returns one of the "
        f"{len(run.classes)} classes.",
        "The interval of the accuracy is over test images; another seed differs by more.",
    ]
    if settings.val:
        limits.append(
            f"{settings.val:g} of the training images (a number, or a fraction below 1) were held out."
        )
    else:
        limits.append("No images were held out, so settings may have been chosen by the test accuracy.")
    if settings.fraction < 1:
        limits.append(f"Only a fraction of {settings.fraction:g} of the training images was used.")
    if settings.label_noise:
        limits.append(
            f"A fraction of {settings.label_noise:g} of the training labels was changed on purpose."
        )
    if error := record.get(f"{prefix}test_ece"):
        limits.append(f"Its probabilities are off by {error:.2f} points on average (calibration error).")
    if corrupted := record.get(f"{prefix}test_corruption_error"):
        limits.append(f"On corrupted test images its error is {corrupted:.2f} %.")
    return limits


def _table(rows: list[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
