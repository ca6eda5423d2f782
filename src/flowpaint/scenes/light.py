"""Light and lens: what changes colours over time without moving anything."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .motion import NOTHING, Curve, Points

ONE = Curve(powers=(1.0,))


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A soft dark spot that wanders over the picture: it has no flow of its own."""

    x: Curve = NOTHING
    y: Curve = NOTHING
    size: float = 0.3  # of the spot, as a standard deviation
    darkness: float = 0.4

    def at(self, points: Points, time: float) -> npt.NDArray[np.float32]:
        """The share of light [N] that reaches `points` [2, N] on screen."""
        squares = np.square(points[0] - self.x(time)) + np.square(points[1] - self.y(time))
        reaching: npt.NDArray[np.float32] = (1.0 - self.darkness * np.exp(-0.5 / self.size**2 * squares)).astype(np.float32)
        return reaching


@dataclass(frozen=True, kw_only=True)
class Light:
    """Gain and tint over time, a shadow, motion blur, lens blur and noise, in this order. The default changes nothing.

    `shutter` is the share of a frame's time that the shutter is open, sampled `shutter_samples` times around the frame's
    moment. `blur` is a standard deviation in scene units, `noise` one of the values in [0, 1]. Raises `InputError` for negative
    ones.
    """

    gain: Curve = ONE
    tint: tuple[Curve, Curve, Curve] = (ONE, ONE, ONE)
    shadow: Shadow | None = None
    shutter: float = 0.0
    shutter_samples: int = 8
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.shutter, self.blur, self.noise) < 0 or self.shutter_samples < 1:
            raise InputError("Shutter, blur and noise cannot be negative, nor can there be no sample. Give 0 to turn one off.")

    def moments(self, time: float) -> list[float]:
        """The times whose mean a frame shows: the middles of equal parts of the time that the shutter is open."""
        if self.shutter == 0:
            return [time]
        count = self.shutter_samples
        return [time + self.shutter * ((index + 0.5) / count - 0.5) for index in range(count)]

    def shade(self, colours: npt.NDArray[np.float32], points: Points, time: float) -> npt.NDArray[np.float32]:
        """Colours [3, N] of `points` [2, N] on screen under the light of `time`."""
        factors = np.array([[self.gain(time) * channel(time)] for channel in self.tint], np.float32)
        if self.shadow is None and (factors == 1).all():
            return colours
        reaching = np.float32(1) if self.shadow is None else self.shadow.at(points, time)
        lit: npt.NDArray[np.float32] = colours * (factors * reaching)
        return lit

    def develop(self, picture: Tensor, time: float) -> Tensor:
        """A lit picture [3, H, W] through the lens and onto the sensor: blurred, noisy, clipped to [0, 1]."""
        if self.blur:
            picture = _blurred(picture, self.blur * min(picture.shape[1:]))
        if self.noise:
            # The bits of the time key the noise, so any frame can be drawn alone.
            key = np.array([time], np.float64).view(np.uint64)[0]
            rng = np.random.default_rng([102, self.seed, int(key)])
            picture = picture + self.noise * torch.from_numpy(rng.standard_normal(picture.shape, dtype=np.float32))
        return picture.clamp(0.0, 1.0)


PLAIN = Light()


def _blurred(picture: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=picture.dtype) / sigma).square())
    kernel = kernel / kernel.sum()
    height, width = picture.shape[1:]
    # Edges repeat: reflection would need a picture wider than the kernel. Written as a sum, a pixel depends on those under the
    # kernel alone and in one order, which fast convolutions do not promise.
    padded = F.pad(picture[None], (radius, radius, radius, radius), mode="replicate")[0]
    rows = sum((weight * padded[:, :, shift : shift + width] for shift, weight in enumerate(kernel)), start=torch.zeros(()))
    return sum((weight * rows[:, shift : shift + height] for shift, weight in enumerate(kernel)), start=torch.zeros(()))
