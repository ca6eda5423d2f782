"""A stand-in for the program EbSynth: it takes its arguments and copies, to each pixel, the style where the guides fit best.

What this has of the real program is its command line, as its source defines it: the options and how many words each takes,
`-weight` after the guide it belongs to, sizes that must agree, weights shared among a guide's channels, exit code 1 and a
line on stdout for what it refuses.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

VALUES = {"-uniformity": float, "-patchsize": int, "-searchvoteiters": int, "-patchmatchiters": int}


def install(folder, script=Path(__file__)):
    """An executable called `ebsynth` in `folder`."""
    program = folder / "ebsynth"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{script}" "$@"\n')
    program.chmod(0o755)
    return program


def main(words):
    style, output, guides, values = None, None, [], {}
    words = list(words)
    while words:
        option = words.pop(0)
        if option == "-style":
            style = load(words.pop(0))
        elif option == "-guide":
            guides.append([load(words.pop(0)), load(words.pop(0)), None])
        elif option == "-weight":
            guides[-1][2] = float(words.pop(0))
        elif option == "-output":
            output = words.pop(0)
        elif option in VALUES:
            values[option] = VALUES[option](words.pop(0))
        else:
            refuse(f"unrecognized option '{option}'")
    if any(source.shape[:2] != style.shape[:2] or target.shape[:2] != guides[0][1].shape[:2] for source, target, _ in guides):
        refuse("source guide doesn't match the resolution of the style")
    cv2.imwrite(output, best_match(style, guides))


def best_match(style, guides):
    """The style [H, W, 3] where the guides, (source, target, weight) of pictures [H, W, 3], fit best."""
    sources, targets = (np.concatenate([weighted(guide, end) for guide in guides], axis=1) for end in (0, 1))
    best = ((sources**2).sum(axis=1) - 2 * targets @ sources.T).argmin(axis=1)
    return style.reshape(-1, 3)[best].reshape(guides[0][1].shape)


def weighted(guide, end):
    grey = all((one == one[..., :1]).all() for one in guide[:2])
    picture = guide[end][..., :1] if grey else guide[end]
    return picture.reshape(-1, picture.shape[-1]).astype(float) * (guide[2] / picture.shape[-1]) ** 0.5


def load(name):
    found = cv2.imread(name, cv2.IMREAD_COLOR)
    return found if found is not None else refuse(f"failed to load '{name}'")


def refuse(message):
    sys.stdout.write(f"error: {message}\n")
    sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
