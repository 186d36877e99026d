"""Settings that do not depend on what is chosen. Their fields are flags, YAML keys and help, as a trick's."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from ..core.contracts import (
    Count,
    FilePath,
    Fraction,
    NonNegative,
    Positive,
    Precision,
    Probability,
    validated,
)
from ..core.errors import require

Tracker = Literal["tensorboard", "wandb", "mlflow"]
Normalization = Literal["standard", "legacy", "pretrained"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


@validated
@dataclass(frozen=True)
class DataSettings:
    fraction: Fraction = 1.0  # train on this stratified fraction of the training images
    val: NonNegative = 0.0  # validation images held out of the training set: a fraction, or a number
    imbalance: Annotated[float, Ge(1)] = 1.0  # long tail: images of the first class over those of the last
    label_noise: Probability = 0.0  # fraction of wrong training labels; does not depend on the seed
    noise_type: Literal["symmetric", "asymmetric"] = "symmetric"  # any other class, or the usual confusion
    normalize: Normalization = "standard"  # mean and std: of the data set, older projects or the weights
    root: FilePath | None = None  # folder of the data; default $DATA_DIR, else ./data
    offline: bool = False  # never download


@validated
@dataclass(frozen=True)
class TrainSettings:
    epochs: Positive = 200.0  # training budget; it may end within an epoch
    batch_size: Count = 128  # images per step
    seed: Annotated[int, Interval(ge=0, lt=2**63)] = 0  # seed of all randomness
    precision: Precision = "fp32"  # of the model's arithmetic; weights stay in fp32
    accumulate: Count = 1  # micro-batches per batch, to save memory
    clip: Positive | None = None  # maximum gradient norm
    channels_last: bool = True  # memory format of the weights: faster convolutions, same result
    compile: bool = False  # torch.compile the model
    compile_mode: CompileMode = "default"  # of torch.compile; reduce-overhead, max-autotune: CUDA graphs
    sync_bn: bool = False  # BatchNorm over the batch of all processes, not over each one's shard
    deterministic: bool = False  # bit-identical runs on a GPU too, with slower kernels
    compat: Literal["none", "pprp-2021"] = "none"  # defaults of an older project where they differ
    init_from: FilePath | None = None  # run folder or file of weights to start from
    freeze: tuple[str, ...] | None = None  # what is not trained: body, or patterns such as layer1,*.bn1

    def __post_init__(self):
        require(self.accumulate <= self.batch_size, "accumulate", "from 1 to batch_size", self.accumulate)
        used = self.compile or self.compile_mode == "default"
        require(used, "compile_mode", "left out without compile", self.compile_mode)


@dataclass(frozen=True)
class TeacherSettings:
    """The teachers of a distillation. The paths, as given, are part of the run's hash."""

    teacher: tuple[FilePath, ...] | None = None  # run folders or checkpoints; logits of several are averaged
    teacher_weights: str = "last"  # last, or the name of an average that the runs have, such as ema


@dataclass(frozen=True)
class EvaluateSettings:
    """Extra measurements after training. None of them changes the training or the run's hash."""

    corruptions: bool = False  # accuracy under 15 corruptions of the test images at 5 severities


@validated
@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is carried out. None of this changes the training or the run's hash."""

    name: str | None = None  # first part of the run folder's name; default: what is changed
    output_dir: FilePath | None = None  # run folder; default runs/<dataset>/<name>-<hash>/seed<k>
    device: str = "auto"  # auto, cpu, cuda, cuda:<number> or mps
    evaluate_every: Count = 1  # epochs between evaluations; the last epoch is always evaluated
    save_every: Count = 1  # epochs between checkpoints; the last epoch is always saved
    tracker: tuple[Tracker, ...] | None = ("tensorboard",)  # where scalars are recorded too, or none
    profile: bool = False  # trace 10 steps for chrome://tracing and print the slowest operations
    resume_changed: bool = False  # resume although the data or the version of torch have changed
