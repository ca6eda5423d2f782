"""VGG-16 and AlexNet as plain stacks of convolutions, whose maps on the way are what perceptual measures compare.

Simonyan and Zisserman, ICLR 2015; Krizhevsky, "One weird trick", 2014. The state-dict keys are torchvision's.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import ConfigError, WeightsError, nearest

_MEAN = (0.485, 0.456, 0.406)  # of ImageNet, RGB in [0, 1]
_DEVIATION = (0.229, 0.224, 0.225)


class ConvStack(nn.Module):
    """Maps of named layers of a sequential network.

    `layers` are the names of the activations and their places in the stack, `least` is the smallest side of a picture that
    leaves something at the deepest of them.
    """

    title: ClassVar[str] = ""
    layers: ClassVar[Mapping[str, int]] = {}
    perceptual: ClassVar[tuple[str, ...]] = ()  # the five layers that LPIPS compares
    least: ClassVar[int] = 1
    mean: Tensor
    deviation: Tensor

    def __init__(self, stack: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.features = nn.Sequential(*stack)
        self.register_buffer("mean", torch.tensor(_MEAN)[None, :, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[None, :, None, None], persistent=False)

    def forward(self, pictures: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
        """The maps [N, C, h, w] of the layers `names`, each at least 0, for pictures [N, 3, H, W] in [0, 1].

        Raises `ConfigError` for layers that the network does not have.
        """
        for name in names:
            if name not in self.layers:
                raise ConfigError(f"{self.title} has no layer {name!r}. Nearest: {nearest(name, self.layers)}.")
        wanted = {self.layers[name] for name in names}
        found: dict[int, Tensor] = {}
        passed = (pictures - self.mean) / self.deviation
        for place in range(max(wanted) + 1):
            passed = self.features[place](passed)
            if place in wanted:
                found[place] = passed
        return tuple(found[self.layers[name]] for name in names)

    def fill(self, state: Mapping[str, Tensor]) -> None:
        """Take the convolutions' weights from torchvision's state dict; the classifier's are left aside.

        Raises `WeightsError` where they do not fit.
        """
        mine = {name: value for name, value in state.items() if name.startswith("features.")}
        try:
            self.load_state_dict(mine)
        except RuntimeError as error:
            told = str(error).strip().splitlines()[-1].strip()
            raise WeightsError(
                f"The weights do not fit {self.title}: {told} Give torchvision's file, or one with the same keys."
            ) from error


def _vgg_stack() -> list[nn.Module]:
    stack: list[nn.Module] = []
    before = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            stack += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        stack.append(nn.MaxPool2d(2))
    return stack


class Vgg16(ConvStack):
    """The 13 convolutions of VGG-16 (configuration D). Its last activation, `relu5_3`, is 16 times smaller than the picture."""

    title: ClassVar[str] = "VGG-16"
    layers: ClassVar[Mapping[str, int]] = {
        "relu1_1": 1, "relu1_2": 3, "relu2_1": 6, "relu2_2": 8, "relu3_1": 11, "relu3_2": 13, "relu3_3": 15,
        "relu4_1": 18, "relu4_2": 20, "relu4_3": 22, "relu5_1": 25, "relu5_2": 27, "relu5_3": 29,
    }  # fmt: skip
    perceptual: ClassVar[tuple[str, ...]] = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
    least: ClassVar[int] = 16

    def __init__(self) -> None:
        super().__init__(_vgg_stack())


class AlexNet(ConvStack):
    """The 5 convolutions of AlexNet, in the single-column form that torchvision publishes."""

    title: ClassVar[str] = "AlexNet"
    layers: ClassVar[Mapping[str, int]] = {"relu1": 1, "relu2": 4, "relu3": 7, "relu4": 9, "relu5": 11}
    perceptual: ClassVar[tuple[str, ...]] = ("relu1", "relu2", "relu3", "relu4", "relu5")
    least: ClassVar[int] = 31

    def __init__(self) -> None:
        super().__init__(
            [
                *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
            ]
        )
