"""The 26 styles of the bundled network."""

from .entry import Style, entry

# Named by what they show on photographs and film frames, all 26 looked at. One look bears a painter's name; the others
# say what they look like, and a few answer to the painter they are nearest to. The network's author left no names.
STYLES = (
    entry("van gogh", Style(index=19), "blue and yellow dabs in swirls", "vangogh", "starry night, vincent van gogh, gogh"),
    entry("impressionist", Style(index=12), "lilac and gold light in soft dabs", "impressionism", "monet, claude monet"),
    entry(
        "expressionist", Style(index=5), "restless orange and violet strokes", "expressionism", "the scream, munch, bold strokes"
    ),
    entry(
        "japanese print",
        Style(index=24),
        "cream paper and indigo, like an old woodblock wave",
        "ukiyo-e",
        "great wave, hokusai, japanese woodblock print, japanese woodblock, woodblock print",
    ),
    entry(
        "mosaic",
        Style(index=15),
        "pale tiles between coloured leads",
        "stained glass",
        "mosaic tiles, leaded glass, cathedral glass",
    ),
    entry(
        "pop art",
        Style(index=21),
        "flat pink, yellow and sky blue behind thick black",
        "pop-art",
        "popart, bold pop",
    ),
    entry(
        "abstract",
        Style(index=3),
        "thick red, blue and brown strokes on black; little of the scene remains",
        "abstract art",
        "abstract expressionism, shards",
    ),
    entry(
        "woven",
        Style(index=17),
        "red and amber bars woven over dark; little of the scene remains",
        "weave",
        "woven bars, tapestry",
    ),
    entry(
        "cells",
        Style(index=6),
        "indigo tissue with dark dots; little of the scene remains",
        "dots on indigo",
        "microscope, leopard dots",
    ),
    entry("speckle", Style(index=9), "small pale dabs on slate and crimson", "dabs", "pointillism, pointillist, stipple"),
    entry(
        "yellow and ink",
        Style(index=1),
        "thick black lines, white and one flat yellow",
        "black and yellow",
        "yellow poster",
    ),
    entry(
        "primary colours",
        Style(index=7),
        "black, cobalt, yellow and red, broadly brushed",
        "primaries",
        "red yellow and blue, bold oil, bauhaus",
    ),
    entry(
        "crimson and gold",
        Style(index=4),
        "crimson shadows, gold and pale blue lights",
        "red and gold",
        "art deco, carnival poster",
    ),
    entry(
        "ember", Style(index=20), "glowing reds on black and deep blue", "embers", "red fire, fiery, fiery red, glowing embers"
    ),
    entry(
        "copper",
        Style(index=10),
        "copper plate: dark, warm, finely etched",
        "copper plate",
        "copper etching, bronze engraving",
    ),
    entry(
        "linocut",
        Style(index=13),
        "lime, teal and rust, carved with dark furrows",
        "tropical",
        "lino print, linoleum print, tropical linocut",
    ),
    entry(
        "woodcut",
        Style(index=11),
        "ochre and pale grey with dark carved outlines",
        "ochre woodcut",
        "wood engraving, old map, engraving, etching",
    ),
    entry(
        "parchment",
        Style(index=18),
        "brown carving on olive parchment",
        "wood carving",
        "carved wood, papyrus, parchment scroll, old manuscript",
    ),
    entry(
        "tinted sketch",
        Style(index=2),
        "charcoal shading with a breath of peach and pale blue",
        "sketch and wash",
        "pale sketch, line and wash",
    ),
    entry(
        "colour ink",
        Style(index=8),
        "white paper, fine lines, magenta, cyan and yellow",
        "color ink",
        "magenta and cyan ink, fashion sketch",
    ),
    entry(
        "crayon",
        Style(index=0),
        "chalky gold and powder blue",
        "crayons",
        "wax crayon, chalk, children's drawing, crayon drawing",
    ),
    entry(
        "blue hatching",
        Style(index=16),
        "slanting strokes of blue, rust and olive",
        "hatching",
        "oil pastel strokes, crosshatch, hatched",
    ),
    entry("frost", Style(index=14), "ice-blue plaster with a touch of rose", "ice", "frosty, porcelain, ice blue"),
    entry("cubist", Style(index=22), "black contours, cream planes, blue and red spots", "cubism", "picasso, pablo picasso"),
    entry(
        "moonlight",
        Style(index=23),
        "dusky greens, a pale blue and cream glow",
        "moonlit",
        "moonlit oil, moonlight painting, hand tinted photograph",
    ),
    entry(
        "impasto",
        Style(index=25),
        "raised curls of blue, grey and amber paint",
        "thick paint",
        "relief, embossed, palette knife, carved relief",
    ),
)
