"""What pictures are called: subjects of scenes, and the sentences that name a look."""

from collections.abc import Sequence

import numpy as np

from ..scenes import Scene
from ..scenes.shapes import Blob, Glyph, Polygon
from ..scenes.textures import Checks, Flat, Gradient, Noise, Photo, Stripes, Styled, Texture

Random = np.random.Generator

COLOURS = {
    "black": (0.08, 0.08, 0.08), "white": (0.92, 0.92, 0.92), "grey": (0.5, 0.5, 0.5), "red": (0.75, 0.2, 0.2),
    "green": (0.25, 0.65, 0.25), "blue": (0.2, 0.3, 0.75), "yellow": (0.8, 0.75, 0.25), "orange": (0.8, 0.5, 0.2),
    "purple": (0.5, 0.25, 0.65), "pink": (0.8, 0.5, 0.65), "brown": (0.45, 0.3, 0.2), "turquoise": (0.25, 0.7, 0.7),
    "olive": (0.5, 0.5, 0.2), "violet": (0.55, 0.45, 0.8),
}  # fmt: skip

# One in eight says nothing but the look, as users do.
_TEMPLATES = (
    "{look}", "{look} style", "in the style of {look}", "make it {look}", "turn it into {look}", "a {look} picture",
    "{subject}, {look}", "{subject}, {look} style", "{subject}, in the style of {look}", "a {look} painting of {subject}",
    "a {look} picture of {subject}", "{subject} as {look}", "make {subject} look like {look}", "{look}: {subject}",
)  # fmt: skip
_PLAIN = ("{subject}", "a photograph of {subject}", "a picture of {subject}", "photograph, {subject}", "photograph")


def caption(subject: str, names: Sequence[str], rng: Random) -> str:
    """A sentence about a picture of `subject` in a look that is known by any of `names`; none: a plain picture."""
    if not names:
        return str(rng.choice(_PLAIN)).format(subject=subject)
    # The first name is the look's own: half the time it is that one.
    name = names[0] if len(names) == 1 or rng.random() < 0.5 else names[int(rng.integers(1, len(names)))]
    return str(rng.choice(_TEMPLATES)).format(subject=subject, look=name)


def templates() -> tuple[str, ...]:
    """Every sentence that `caption` can fill in."""
    return (*_TEMPLATES, *_PLAIN)


def colour_name(colour: Sequence[float]) -> str:
    """The nearest of `COLOURS` to (red, green, blue) in [0, 1]."""
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(colour, COLOURS[name], strict=True)))


def scene_subject(scene: Scene) -> str:
    """What a scene shows: "a red striped star and a blob on mottled blue"."""
    background, *objects = scene.layers
    named = [f"a {_surface(one.texture)} {_silhouette(one.shape)}" for one in objects[-2:]]
    ground = _surface(background.texture)
    return f"{' and '.join(named)} on {ground}" if named else ground


def _silhouette(shape: object) -> str:
    if isinstance(shape, Glyph):
        return "letter"
    if isinstance(shape, Blob):
        return "blob"
    return "star" if isinstance(shape, Polygon) and len(shape.corners) >= 8 else "polygon"


def _surface(texture: Texture) -> str:
    if isinstance(texture, Styled):
        return _surface(texture.texture)
    if isinstance(texture, Photo):
        return "painted"
    if isinstance(texture, Noise):
        return f"mottled {colour_name(texture.colour)}"
    if isinstance(texture, Flat):
        return colour_name(texture.colour)
    assert isinstance(texture, (Stripes, Checks, Gradient))
    kind = {Stripes: "striped", Checks: "chequered", Gradient: "shaded"}[type(texture)]
    return f"{kind} {colour_name(texture.first)} and {colour_name(texture.second)}"
