"""A scene: layers from far to near, a camera, light. Plain values; everything shown is a function of them and of time."""

from dataclasses import dataclass
from itertools import pairwise

from ..errors import InputError
from .camera import STEADY, Camera
from .depths import Depth
from .light import PLAIN, Light
from .motion import REST, Motion, Ripple
from .shapes import Shape
from .textures import Texture


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A painted silhouette that moves. Edits recognise it by its `name`."""

    name: str
    texture: Texture
    depth: Depth
    shape: Shape | None = None  # None covers the plane: the background
    motion: Motion = REST
    deform: Ripple | None = None  # moves the silhouette, not what is painted on it


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Layers far to near, the first one without a shape.

    Raises `InputError` unless the background comes first and alone, names differ and the bands of nearness rise from layer to
    layer: only then is the order of layers the order of depth.
    """

    layers: tuple[Layer, ...]
    camera: Camera = STEADY
    light: Light = PLAIN

    def __post_init__(self) -> None:
        if [layer.shape is None for layer in self.layers] != [index == 0 for index in range(max(len(self.layers), 1))]:
            raise InputError("A scene needs one background, its first layer, without a shape. Give every other layer a shape.")
        if len({layer.name for layer in self.layers}) < len(self.layers):
            raise InputError(f"The names {[layer.name for layer in self.layers]} repeat. Give each layer its own.")
        for far, near in pairwise(self.layers):
            if far.depth.band[1] >= near.depth.band[0]:
                raise InputError(
                    f"Layer {near.name!r} reaches {near.depth.band[0]:.3f}, behind {far.name!r} at {far.depth.band[1]:.3f}. "
                    "Order layers far to near, in bands that do not meet."
                )
        lowest, highest = self.layers[0].depth.band[0], self.layers[-1].depth.band[1]
        if lowest < 0 or highest > 1:
            raise InputError(f"Nearness runs from {lowest:.3f} to {highest:.3f}. Keep it between 0, infinity, and 1.")
