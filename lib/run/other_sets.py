"""`--evaluate RUN --on cifar10.1,cifar10_c,svhn`: the networks of a run on test images of other data sets.

A set with the run's classes measures how accuracy transfers. A set with others is out of distribution: how
well does the confidence, the highest probability, separate its images from the run's own test images
(Hendrycks and Gimpel 2017, arXiv:1610.02136)? Images are seen as the run sees its own: its channels, crop,
size and normalisation.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from ..core.errors import BadInput, where
from ..core.registry import Entry, datasets
from ..corruptions import SEVERITIES
from ..data.base import Dataset, DataSpec, Split, data_root
from ..data.images import Images
from ..engine.evaluate import BATCH, Evaluation
from ..engine.metrics import beyond_accuracy
from ..factory.load import TrainedRun
from ..report.text import aligned, number
from .predict import evaluate
from .robustness import Accuracies, corruption_error, robustness_text

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R 601), as Pillow's


def on_other_sets(run: TrainedRun, names: Iterable[str], own: dict[str, Evaluation]) -> dict[str, Any]:
    """By data set the results of each network, as they are in `evaluation.json`.

    Args:
        own: the evaluations of the networks on the run's own test images.
    Raises:
        BadInput: a data set is unknown or cannot be had.
    """
    entries = [datasets[name] for name in names]  # all, before the first is read
    for entry in entries:
        if entry.placeholders:
            raise BadInput(f"--on {entry.name} is a pattern; give a value for <{entry.placeholders[0]}>")
    return {entry.name: _on(run, entry, own) for entry in entries}


def _on(run: TrainedRun, entry: Entry, own: dict[str, Evaluation]) -> dict[str, Any]:
    if entry.facts.corruptions:
        return {"corrupted": True, "networks": _corrupted(run, entry)}
    dataset = _read(run, entry)
    known = set(dataset.classes) & set(run.classes)
    if known == set(dataset.classes):
        order = torch.tensor([run.classes.index(name) for name in dataset.classes])
        test = replace(dataset.test, y=order[dataset.test.y])
        soft = test.soft if isinstance(test, Split) else None
        if soft is not None:
            test = replace(test, soft=torch.zeros(len(test), len(run.classes)).index_copy(1, order, soft))
        images = _images(run, test)
        results = {name: _accuracy(run, model, images) for name, model in run.models.items()}
        return {"images": len(images), "networks": results}
    images = _images(run, replace(dataset.test, y=torch.zeros_like(dataset.test.y)))
    results = {
        name: separation(own[name].logits, evaluate(model, images, run.precision).logits)
        for name, model in run.models.items()
    }
    return {"images": len(images), "out_of_distribution": True, "shared": sorted(known), "networks": results}


def _read(run: TrainedRun, entry: Entry, **options: Any) -> Dataset:
    """A data set; one of image files is decoded as the run's own, the others are resized later."""
    own = {"image_size": run.data.shape[-1], "test_crop": run.data.test_crop}
    own = {name: value for name, value in own.items() if name in entry.fields}
    config = run.config.data
    with where(f"--on {entry.name}"):
        return entry.build(root=data_root(config.root), offline=config.offline, **own, **options)


def _images(run: TrainedRun, split: Split) -> Images:
    test = run.images["test"]
    return Images(as_own(split, run.data).to(run.device), test.normalize)


def as_own(split: Split, spec: DataSpec) -> Split:
    """Images with the channels, centre crop and size of a run's own.

    Raises:
        BadInput: that is impossible: they are streamed, or of neither one nor three channels.
    """
    if split.shape == spec.shape and (spec.test_crop == 1 or not isinstance(split, Split)):
        return split
    channels, height, width = spec.shape
    if not isinstance(split, Split) or {channels, split.shape[0]} - {1, 3}:
        raise BadInput(f"--on: images of shape {split.shape} cannot be turned into {spec.shape}")
    side = max(1, round(min(split.shape[1:]) * spec.test_crop))
    top, left = ((extent - side) // 2 for extent in split.shape[1:])
    parts = [
        _resized(x[:, :, top : top + side, left : left + side].float(), channels, (height, width))
        for x in split.x.split(BATCH)
    ]
    return replace(split, x=torch.cat(parts))


def _resized(x: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    if x.shape[1] > channels:
        x = (x * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    x = x.expand(-1, channels, -1, -1)
    if x.shape[-2:] != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).to(torch.uint8)


def _accuracy(run: TrainedRun, model: nn.Module, images: Images) -> dict[str, float]:
    found = evaluate(model, images, run.precision)
    results = {"accuracy": found.accuracy, "loss": found.loss, **beyond_accuracy(found.logits, found.y)}
    split = images.split
    if isinstance(split, Split) and split.soft is not None:  # cross-entropy with the labels of many people
        results["soft_loss"] = F.cross_entropy(found.logits, split.soft.cpu()).item()
    return results


def _corrupted(run: TrainedRun, entry: Entry) -> dict[str, dict[str, Any]]:
    """Accuracies by corruption and severity, of test images in blocks of equal size by severity."""
    accuracies: dict[str, Accuracies] = {network: {} for network in run.models}
    for corruption in entry.facts.corruptions:
        dataset = _read(run, entry, corruption=corruption)
        if dataset.classes != run.classes:
            raise BadInput(f"--on {entry.name}: its classes are not those of the run")
        images = _images(run, dataset.test)
        for name, model in run.models.items():
            hits = evaluate(model, images, run.precision)
            right = (hits.logits.argmax(1) == hits.y).double().view(len(SEVERITIES), -1)
            accuracies[name][corruption] = (100 * right.mean(1)).tolist()
    return {
        name: {"corruption_error": corruption_error(found), "corruptions": found}
        for name, found in accuracies.items()
    }


def separation(own: Tensor, other: Tensor) -> dict[str, float]:
    """How well the highest probability separates two sets of images, by their logits.

    Returns:
        auroc: probability in percent that an own image has the higher confidence; a tie counts half.
        fpr95: percentage of other images at or above the confidence that 95 % of the own images reach.
    """
    inside, outside = (logits.double().softmax(1).amax(1).numpy() for logits in (own, other))
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    above = ranks.sum() - len(inside) * (len(inside) + 1) / 2
    threshold = np.sort(inside)[::-1][int(np.ceil(0.95 * len(inside))) - 1]
    return {
        "auroc": float(100 * above / (len(inside) * len(outside))),
        "fpr95": float(100 * (outside >= threshold).mean()),
    }


def other_sets_text(found: dict[str, Any]) -> str:
    """A table of all sets and networks, and notes on what its numbers mean."""
    columns = {"accuracy": "top-1 %", "loss": "loss", "ece": "ECE %", "auroc": "AUROC %", "fpr95": "FPR95 %"}
    rows, notes = [["data set", "network", "images", *columns.values()]], []
    for name, on in found.items():
        for network, results in on["networks"].items():
            if "corruptions" in results:
                results = {"accuracy": 100 - results["corruption_error"]}
            cells = [number(results.get(key), ".4f" if key == "loss" else ",.2f") for key in columns]
            rows.append([name, network, number(on.get("images"), ","), *cells])
        if on.get("corrupted"):
            table = robustness_text({network: of["corruptions"] for network, of in on["networks"].items()})
            notes.append(f"{name}: accuracy is the mean over corruptions and severities\n{table}")
        if on.get("out_of_distribution"):
            shared = f"; but it shares {', '.join(on['shared'])}" if on["shared"] else ""
            notes.append(f"{name} has other classes, so it counts as out of distribution{shared}")
        soft = {network: of["soft_loss"] for network, of in on["networks"].items() if "soft_loss" in of}
        for network, loss in soft.items():
            notes.append(f"{name}: cross-entropy of {network} with the labels of people {loss:.4f}")
    if any(on.get("out_of_distribution") for on in found.values()):
        notes.append(
            "AUROC and FPR95 compare the highest probability with that of the run's own test images: "
            "50 % and 95 % are chance"
        )
    return "\n".join([aligned(rows), *notes])
