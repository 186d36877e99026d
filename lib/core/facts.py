"""The facts that a registration states: one frozen dataclass for each kind, so that a misspelt fact fails.

The order in which tricks are applied is a fact of the tricks, not of the flags: the enumerations below give
it for augmentations, wrappers, surgeries and initialisations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, IntEnum
from typing import Any, Self


class Stage(IntEnum):
    """When an augmentation is applied. Pixels are uint8 before NORMALIZE and float after it."""

    REPEAT = 1  # more views of an image
    GEOMETRY = 2
    COLOR = 3
    NORMALIZE = 4
    TONE = 5  # brightness and contrast of float pixels, before anything is erased to a fixed grey
    ERASE = 6
    MIX = 7
    RESIZE = 8
    LABEL = 9
    # Selections pick images here; until now every process holds the full batch.
    SHARD = 10  # every process keeps its own part of the batch
    TEACH = 11


class WrapperOrder(IntEnum):
    """From the optimizer outwards: an outer wrapper decides how often the inner ones step, and with what."""

    CLIP = 0  # bounds the gradient that the optimizer gets, hence after everything that changes it
    CENTRE = 1  # changes the gradient, once a step
    PERTURB = 2  # calls the closure, and decides at which weights the gradient is taken
    SLOW = 3  # moves the weights after the step


class SurgeryOrder(IntEnum):
    """Modules are replaced first, because what is grafted onto a module would be lost with it."""

    WEIGHTS = 1
    NORMS = 2
    SCALES = 3
    STRIDES = 4
    BRANCHES = 5
    DROPS = 6  # after everything else at the end of a branch
    HEAD = 7


class Part(Enum):
    """What a surgery changes in a network."""

    NORMALIZED_CONVOLUTION = "a convolution followed by a norm"
    BATCH_NORM = "a BatchNorm"
    STRIDE = "a convolution or pooling of stride 2"
    BRANCH = "a residual branch"
    CONVOLUTIONAL_BRANCH = "a residual branch whose last layer is a convolution"
    HEAD = "a linear classifier"


class InitOrder(IntEnum):
    """What draws all weights comes first; the others then overwrite some of them."""

    DRAW = 1
    IDENTITY = 2
    DATA = 3
    ZERO = 4


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a registered thing of any kind."""

    paper: str = ""  # authors, year and arXiv id
    # Defaults of its own fields, or of the fields of its section, where they differ from those written there.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # By the name of an older project: the defaults, or facts, that were that project's.
    compat: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_of(self, era: str | None) -> Self:
        """The facts with those of an older project, as `--compat` asks."""
        older = self.compat.get(era, {})
        known = {f.name for f in fields(self)}
        defaults = {key: value for key, value in older.items() if key not in known}
        changed = {key: value for key, value in older.items() if key in known}
        return replace(self, **changed, defaults={**self.defaults, **defaults})


@dataclass(frozen=True, kw_only=True)
class ModelFacts(Facts):
    params: int | float | None = None  # parameters with 10 classes: exact, or a float as the paper rounds it


@dataclass(frozen=True, kw_only=True)
class DatasetFacts(Facts):
    """Facts of a data set; None for what is known only once its files are read."""

    classes: tuple[str, ...] | None = None
    shape: tuple[int, int, int] | None = None  # C, H, W
    train: int | None = None  # images
    test: int | None = None
    mean: tuple[float, ...] | None = None  # of each channel, of pixels in [0, 1]
    std: tuple[float, ...] | None = None
    legacy: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # mean and std of older projects
    balanced: bool = False  # every class has the same number of training images
    augment: tuple[str, ...] = ()  # augmentations that are on by default
    corruptions: tuple[str, ...] = ()  # values of its option `corruption`: test images at 5 severities each
    mistaken: Mapping[int, int] | None = None  # class that each is mistaken for, of asymmetric label noise

    def usual(self, section: str) -> tuple[str, ...]:
        """The tricks of a section that are on by default."""
        return self.augment if section == "augment" else ()


@dataclass(frozen=True, kw_only=True)
class AugmentationFacts(Facts):
    stage: Stage
    cuts: str | None = None  # its field that is the side of the images it makes


@dataclass(frozen=True, kw_only=True)
class SurgeryFacts(Facts):
    order: SurgeryOrder
    needs: Part  # a network without it is refused
    freezes: bool = False  # it stops the training of parameters, and leaves the function as it is
    own: tuple[str, ...] = ()  # options by which some models do the same
    splits: str | None = None  # its field that is the size of the parts a micro-batch is split into


@dataclass(frozen=True, kw_only=True)
class InitFacts(Facts):
    order: InitOrder

    @property
    def draws(self) -> bool:
        """Whether it draws all weights, so that only one such initialisation can be on."""
        return self.order is InitOrder.DRAW


@dataclass(frozen=True, kw_only=True)
class WrapperFacts(Facts):
    order: WrapperOrder
    # Whether it scales up a small difference of gradients, and the rounding of low precision with it.
    amplifies_rounding: bool = False

    @property
    def perturbs(self) -> bool:
        """Whether it takes the gradient at perturbed weights, so that only one such wrapper can be on."""
        return self.order is WrapperOrder.PERTURB
