"""Judge a folder of `mini` on the pictures that it was not trained on: scikit-image's astronaut, chelsea and coffee.

    python scripts/judge_mini.py FOLDER [--sheet samples.png] [--strength 0.7] [--prompt "{look}"] [--set guidance=4]

Prints the autoencoder's PSNR at 256 pixels (floor 26 dB, goal 30), and for each look on how many of the three pictures the edit
is most like its own look's teacher picture (floor 60 % in all, goal 90 %).
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image

from flowpaint.api.choose import choose_method
from flowpaint.evaluation.held_out import judge_looks, reconstruction, teachers
from flowpaint.training.family import LOOKS
from flowpaint.training.sheet import write_sheet

HELD_OUT = ("astronaut", "chelsea", "coffee")


def held_out(size: int = 256) -> dict[str, torch.Tensor]:
    """The middle squares of the three pictures, [3, size, size] in [0, 1]."""
    found = importlib.util.find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("scikit-image is not installed: its pictures judge.")
    folder = Path(found.submodule_search_locations[0]) / "data"
    return {name: _square(folder / f"{name}.png", size) for name in HELD_OUT}


def _square(path: Path, size: int) -> torch.Tensor:
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    small = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(size, size, 3).permute(2, 0, 1).float() / 255


def main() -> None:
    """Print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path, help="picture to write: a row of teachers, a row of edits for each picture")
    parser.add_argument("--strength", type=float, default=0.7)
    parser.add_argument("--prompt", default="{look}")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="of the editor `diffusion`")
    told = parser.parse_args()
    settings = [f"model.weights={told.folder}", f"editor.strength={told.strength}", *(f"editor.{one}" for one in told.settings)]
    method, _ = choose_method("frame-by-frame", settings=settings)
    editor = cast(Any, method).editor
    pictures = held_out()
    for name, picture in pictures.items():
        print(f"{name:<10} {reconstruction(editor.model, picture):6.2f} dB")
    verdict = judge_looks(editor, pictures, LOOKS, prompt=told.prompt, progress=lambda *_: None)
    for look in LOOKS:
        others = [found for (_, asked), found in verdict.nearest.items() if asked == look and found != look]
        print(f"{look:<18} {verdict.hits(look)} of {len(pictures)}  {', '.join(others)}")
    print(f"nearest to its own look: {verdict.share:.1%} of {len(verdict.nearest)} (chance {1 / len(LOOKS):.1%})")
    if told.sheet:
        rows = []
        for name, picture in pictures.items():
            rows += [picture, *teachers(picture, LOOKS).values()]
            rows += [picture, *(verdict.pictures[name, look] for look in LOOKS)]
        write_sheet(told.sheet, torch.stack(rows), columns=len(LOOKS) + 1)


if __name__ == "__main__":
    main()
