"""Settings that hold whatever is chosen. Their fields are flags, YAML keys and help, as of every trick."""

from dataclasses import dataclass, replace
from typing import Literal

from ..core.errors import require

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


@dataclass(frozen=True)
class DataSettings:
    fraction: float = 1.0  # train on this stratified part of the training images
    val: float = 0.0  # hold out a fixed part of the training images: a share below 1, or a number of images
    imbalance: float = 1.0  # a long tail: of its images the first class keeps all, the last 1 / imbalance
    label_noise: float = 0.0  # share of the training images with a wrong label, the same for every seed
    noise_type: Literal["symmetric", "asymmetric"] = "symmetric"  # any other class, or the usual mistake
    normalize: Literal["standard", "legacy"] = "standard"  # the set's own mean and std, or older projects'
    root: str | None = None  # where data lie or are put; else $DATA_DIR, else ./data
    offline: bool = False  # never download

    def __post_init__(self):
        require(0 < self.fraction <= 1, "fraction", "above 0 and at most 1", self.fraction)
        require(self.val >= 0, "val", "at least 0", self.val)
        require(self.imbalance >= 1, "imbalance", "at least 1", self.imbalance)
        require(0 <= self.label_noise <= 1, "label_noise", "from 0 to 1", self.label_noise)


@dataclass(frozen=True)
class TrainSettings:
    epochs: float = 200.0  # the budget; it may end within an epoch
    batch_size: int = 128  # images a step
    seed: int = 0  # of everything random
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the model's arithmetic; weights stay in fp32
    accumulate: int = 1  # micro-batches that a batch is split into, to save memory
    clip: float | None = None  # largest norm of the gradient
    channels_last: bool = True  # memory format of the weights: faster convolutions, same sums
    compile: bool = False  # torch.compile the model
    compile_mode: CompileMode = "default"  # torch.compile's: reduce-overhead and max-autotune use CUDA graphs
    sync_bn: bool = False  # of several processes: BatchNorm over the whole batch, not over each one's share
    deterministic: bool = False  # the same bits in every run on a GPU too, whose kernels are then slower
    compat: Literal["none", "pprp-2021"] = "none"  # settings of an older project's time where they differ
    init_from: str | None = None  # a run folder or checkpoint whose weights to start from

    def __post_init__(self):
        require(self.epochs > 0, "epochs", "above 0", self.epochs)
        require(self.batch_size > 0, "batch_size", "at least 1", self.batch_size)
        require(0 <= self.seed < 2**63, "seed", "at least 0 and below 2^63", self.seed)
        require(
            1 <= self.accumulate <= self.batch_size, "accumulate", "from 1 to batch_size", self.accumulate
        )
        require(self.clip is None or self.clip > 0, "clip", "above 0", self.clip)
        used = self.compile or self.compile_mode == "default"
        require(used, "compile_mode", "left off without compile", self.compile_mode)

    def uncompiled(self) -> "TrainSettings":
        return replace(self, compile=False, compile_mode="default")


@dataclass(frozen=True)
class TeacherSettings:
    """Who teaches where a distillation is on. The paths as given are part of what names the run."""

    teacher: tuple[str, ...] | None = None  # run folders or checkpoints; of several the mean of their logits
    teacher_weights: str = "last"  # those of the last step, or an average that the runs had, such as ema


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured in the end beside accuracy: nothing here changes what is learned, or names the run."""

    corruptions: bool = False  # the accuracy under 15 corruptions of the test images in 5 severities too


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is carried out: nothing here changes what is learned, or names the run."""

    name: str | None = None  # first part of the run folder's name; else model and tricks
    output_dir: str | None = None  # the run folder itself; else runs/<dataset>/<name>-<hash>/seed<k>
    device: str = "auto"  # auto, cpu, cuda, cuda:<number> or mps
    evaluate_every: int = 1  # epochs between evaluations; the last epoch always has one
    save_every: int = 1  # epochs between checkpoints; the last epoch always has one
    tensorboard: bool = True  # write TensorBoard scalars too

    def __post_init__(self):
        require(self.evaluate_every > 0, "evaluate_every", "at least 1", self.evaluate_every)
        require(self.save_every > 0, "save_every", "at least 1", self.save_every)
