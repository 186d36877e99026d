"""Arguments that most optimizers share, each with its bounds and its help."""

from typing import Annotated

from annotated_types import Ge, Gt, doc

from ..core.contracts import Decay

LearningRate = Annotated[float, Gt(0), doc("learning rate of the optimizer; the schedule multiplies it")]
Betas = Annotated[tuple[Decay, Decay], doc("decay of the first and the second moment")]
Epsilon = Annotated[float, Ge(0), doc("added to the denominator, so that the division stays finite")]
