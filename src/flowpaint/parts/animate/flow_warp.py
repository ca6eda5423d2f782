"""`FlowWarp`: the edited object moved as the source's was, over the completed background. No network, no depth."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...carry import laid_over
from ...seams import Run
from ...types import Aligned, Edit


@dataclass(frozen=True, kw_only=True)
class FlowWarp:
    """Every frame shows the edited frame's object where and how the simulated motion has it.

    It keeps every detail of the edited frame and shows no more than that: an object that turns shows no other side, light and
    shadow on it stay as they are, and water, crowds and the like behind it stand still where they had to be completed.
    """

    window: ClassVar[int] = 1
    uses_depth: ClassVar[bool] = False

    def __call__(self, told: Aligned, edit: Edit, run: Run) -> Tensor:
        """The pictures [T, 3, H, W] in [0, 1]: each by itself, the same for every seed."""
        del edit, run  # nothing is painted, nothing drawn by lot
        return laid_over(told)
