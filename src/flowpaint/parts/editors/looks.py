"""The table of built-in looks: what each is called, what people call it, and how it is made."""

from ...errors import ConfigError, nearest
from . import drawings
from .entry import Look, entry
from .grades import Grade, Rgb
from .styles import STYLES

_DRAWINGS = (
    entry("pencil", drawings.pencil, "graphite on paper", "pencil sketch, pencil drawing", "sketch, graphite, drawing"),
    entry(
        "colour pencil",
        drawings.colour_pencil,
        "hatched coloured pencils",
        "color pencil, coloured pencil",
        "colored pencils, coloured pencils, crayon pencil",
    ),
    entry("charcoal", drawings.charcoal, "charcoal rubbed on rough paper", "charcoal sketch", "charcoal drawing, coal drawing"),
    entry(
        "ink", drawings.ink, "brush and ink with one grey wash", "ink drawing", "manga, pen and ink, black ink, line art, inked"
    ),
    entry(
        "cartoon",
        drawings.cartoon,
        "flat colours with dark outlines",
        "toon",
        "anime, cel shaded, cel shading, animated cartoon, cartoonish",
    ),
    entry(
        "comic", drawings.comic, "printed dots and strong outlines", "comic book", "halftone, graphic novel, comics, comic strip"
    ),
    entry(
        "watercolour", drawings.watercolour, "pale washes on paper", "watercolor, aquarelle", "water colour, water color, gouache"
    ),
    entry(
        "oil", drawings.oil, "dabs of oil along the forms", "oil painting", "painting, oil paint, oil on canvas, painterly, oils"
    ),
    entry("pastel", drawings.pastel, "soft chalks on toned paper", "soft pastel", "pastels, chalk pastel, pastel colours"),
    entry(
        "poster",
        drawings.poster,
        "six flat tones, loud colours",
        "screen print",
        "posterize, silkscreen, screenprint, propaganda poster",
    ),
    entry("neon", drawings.neon, "glowing edges on a dark ground", "neon lights", "glowing edges, tron, neon glow, neon sign"),
    entry(
        "blueprint",
        drawings.blueprint,
        "white lines on blue paper",
        "technical drawing",
        "cyanotype, architect's plan, schematic",
    ),
)

_BLACK_AND_WHITE: tuple[Rgb, Rgb, Rgb] = ((0.34, 0.52, 0.14),) * 3
_NOIR: tuple[Rgb, Rgb, Rgb] = ((0.50, 0.42, 0.08),) * 3  # red-sensitive: skin stays bright, skies go dark
_INFRARED: tuple[Rgb, Rgb, Rgb] = ((0.15, 1.45, -0.60), (0.58, 0.02, 0.40), (0.25, 0.15, 0.60))

_GRADES = (
    entry(
        "black and white",
        Grade(mix=_BLACK_AND_WHITE, contrast=0.35),
        "neutral greys",
        "monochrome, greyscale",
        "grayscale, bw, b w, remove colour, without colour, no colour, desaturate, old black and white, black and white photo",
    ),
    entry(
        "noir",
        Grade(mix=_NOIR, exposure=-0.7, contrast=0.95, pivot=0.40, vignette=0.75, black=(0.012, 0.012, 0.014)),
        "hard black and white with dark corners",
        "film noir",
        "black and white noir, detective movie, old film noir",
    ),
    entry(
        "sepia",
        Grade(
            mix=_BLACK_AND_WHITE,
            contrast=0.25,
            black=(0.09, 0.055, 0.03),
            white=(1.0, 0.945, 0.83),
            shadows=(0.05, 0.0, -0.05),
            highlights=(0.035, 0.005, -0.045),
            vignette=0.25,
        ),
        "brown photograph of long ago",
        "sepia tone",
        "old photo, old photograph, victorian, daguerreotype",
    ),
    entry(
        "night",
        Grade(exposure=-1.9, warmth=-0.75, saturation=0.5, contrast=0.25, pivot=0.3, shadows=(-0.03, -0.005, 0.05), vignette=0.3),
        "day turned to blue night",
        "day for night",
        "nighttime, night time, at night, midnight, at midnight, nightfall, moonlit night",
    ),
    entry(
        "golden hour",
        Grade(
            exposure=0.12,
            warmth=0.42,
            magenta=0.06,
            contrast=0.2,
            saturation=1.15,
            shadows=(0.02, 0.0, -0.01),
            highlights=(0.06, 0.02, -0.07),
            glow=0.35,
        ),
        "low warm sun",
        "sunset",
        "sunset light, warm sunset, sunrise, warm evening light, evening sun, magic hour",
        measured_steady=True,
    ),
    entry(
        "teal and orange",
        Grade(contrast=0.4, saturation=1.12, shadows=(-0.14, 0.02, 0.11), highlights=(0.12, 0.0, -0.11)),
        "cinema: cool shadows, warm skin",
        "orange and teal",
        "blockbuster, cinematic, cinema, hollywood",
    ),
    entry(
        "vintage",
        Grade(
            warmth=0.14,
            contrast=0.22,
            saturation=0.72,
            black=(0.085, 0.07, 0.085),
            white=(0.985, 0.955, 0.88),
            shadows=(0.015, 0.0, 0.02),
            highlights=(0.03, 0.01, -0.04),
            vignette=0.3,
        ),
        "faded colour film",
        "retro",
        "faded, vintage film, old film, analog film, analogue, 70s, seventies, polaroid, super 8, nostalgic",
    ),
    entry(
        "bleach bypass",
        Grade(contrast=0.7, saturation=0.42, exposure=-0.05, black=(0.015, 0.017, 0.02)),
        "silver left in the film: hard, drained",
        "silver retention",
        "gritty, desaturated, war movie, drained colour",
    ),
    entry(
        "cross process",
        Grade(
            contrast=0.45,
            saturation=1.3,
            shadows=(-0.05, 0.02, 0.075),
            highlights=(0.035, 0.075, -0.13),
            black=(0.0, 0.015, 0.05),
        ),
        "slide film in the wrong bath: cyan shadows, yellow lights",
        "cross processed",
        "cross processing, lomo, lomography, xpro",
    ),
    entry(
        "winter",
        Grade(exposure=0.1, warmth=-0.34, saturation=0.68, contrast=0.15, highlights=(-0.02, 0.0, 0.03)),
        "cold pale light",
        "cold",
        "cold light, wintry, cool blue, chilly, cold winter, winter light, winter cold",
    ),
    entry(
        "warm",
        Grade(exposure=0.1, warmth=0.26, saturation=1.08, contrast=0.1, highlights=(0.02, 0.005, -0.02)),
        "late-morning sun",
        "warm light",
        "warmer, cosy, cozy, warm colours",
    ),
    entry(
        "autumn",
        Grade(mix=((0.86, 0.30, -0.16), (0.22, 0.70, 0.08), (0.06, 0.12, 0.82)), warmth=0.16, saturation=1.1, contrast=0.2),
        "greens turned to russet and gold",
        "fall colours",
        "fall colors, autumnal, autumn leaves, autumn colours",
    ),
    entry(
        "infrared",
        Grade(mix=_INFRARED, contrast=0.15, saturation=1.15),
        "leaves in crimson and rose, as on infrared film",
        "infra red",
        "aerochrome, infrared film, pink leaves",
    ),
    entry(
        "cyberpunk",
        Grade(
            exposure=-0.35,
            contrast=0.45,
            saturation=1.35,
            magenta=0.12,
            shadows=(0.03, -0.045, 0.13),
            highlights=(0.14, -0.09, 0.10),
            black=(0.015, 0.0, 0.05),
            glow=0.5,
        ),
        "magenta and violet city night",
        "cyber punk",
        "synthwave, vaporwave, blade runner, outrun, retrowave",
        measured_steady=True,
    ),
    entry(
        "dream",
        Grade(exposure=0.25, contrast=-0.0, saturation=0.95, black=(0.05, 0.045, 0.06), glow=0.9, highlights=(0.02, 0.0, 0.015)),
        "bright haze around every light",
        "dreamy",
        "ethereal, soft glow, hazy, orton, heavenly, fairy tale, fairytale",
        measured_steady=True,
    ),
    entry(
        "horror",
        Grade(
            exposure=-1.1,
            magenta=-0.5,
            warmth=-0.1,
            saturation=0.42,
            contrast=0.55,
            pivot=0.3,
            vignette=0.75,
            shadows=(-0.03, 0.05, 0.0),
        ),
        "sick green dusk",
        "spooky",
        "creepy, scary, haunted, halloween, horror movie",
    ),
    entry(
        "vivid",
        Grade(contrast=0.32, saturation=1.45),
        "rich colours and contrast",
        "vibrant",
        "vibrant colours, colourful, more colour, saturated, punchy, vivid colours",
    ),
    entry(
        "matte",
        Grade(contrast=0.2, saturation=0.82, black=(0.10, 0.105, 0.12), white=(0.96, 0.955, 0.94)),
        "lifted blacks, quiet colours",
        "matt",
        "low contrast, muted, muted colours, washed out",
    ),
)

LOOKS = (*STYLES, *_DRAWINGS, *_GRADES)


def find(name: str) -> Look:
    """The look called `name`. Raises `ConfigError` with the nearest names."""
    for look in LOOKS:
        if look.name == name:
            return look
    raise ConfigError(f"There is no look called {name!r}. Nearest: {nearest(name, (look.name for look in LOOKS))}.")


def catalogue() -> list[tuple[str, tuple[str, ...], str]]:
    """Name, aliases and what it shows, for every look."""
    return [(look.name, look.aliases, look.shows) for look in LOOKS]
