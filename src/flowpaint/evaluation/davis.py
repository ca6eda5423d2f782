"""DAVIS and data sets laid out like it, and DAVIS-Edit: folders of frames, folders of annotations.

DAVIS (Pont-Tuset et al., 2017)       JPEGImages/[480p/]CLIP/00000.jpg, Annotations/[480p/]CLIP/00000.png,
                                      ImageSets/[2017/]val.txt
DAVIS-Edit (Liu et al., StableV2V)    JPEGImages/CLIP/00000.jpg, Annotations/CLIP/00000.png,
                                      ReferenceImages/[similar|changing/]CLIP.png,
                                      edited_video_caption_dict_{text,image}.json: {CLIP: {original, similar, changing}}
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from ..errors import ConfigError, InputError, nearest
from ..types import Clip
from ..video import Warn, read
from .files import annotations, folders_in, hash_of, pictures_in
from .task import Task, Tasks, file_name

Kind = Literal["text", "image"]
Split = Literal["similar", "changing"]


def _silent(_: str) -> None:
    """Nobody is told."""


def davis(
    root: Path,
    *,
    split: str | None = None,
    resolution: str | None = None,
    prompt: str = "",
    first: int | None = None,
    warn: Warn = _silent,
) -> Tasks:
    """One task for each clip, with its annotated objects as the mask where there are annotations; all with the same `prompt`.

    `split` names a list in ImageSets ("val", "2017/val"), `resolution` a folder between JPEGImages and the clips where there
    are several, `first` how many frames are used. `warn` is told what is missing. Raises `InputError` where there are no
    clips; taking a task raises it where frames and annotations differ in number or size.
    """
    _check_first(first)
    frames, masks = _roots(root, resolution)
    clips = {one.name: one for one in folders_in(frames) if pictures_in(one)}
    chosen = list(clips) if split is None else _listed(root, split)
    for name in chosen:
        if name not in clips:
            warn(f"{name} is listed in {split} and has no frames in {frames}. It is left out.")
    present = [name for name in chosen if name in clips]
    if not present:
        raise InputError(f"{frames} holds no clips of {split!r}. Copy them there, or choose another split.")
    group = split or root.name or "davis"

    def task(clip: str) -> Task:
        source = read(clips[clip])[:first]
        facts: dict[str, str | int | float] = {"frames": hash_of(*pictures_in(clips[clip])[:first])}
        mask = None
        if (masks / clip).is_dir():
            mask = _mask(clips[clip], masks / clip, source)
            facts["annotations"] = hash_of(*pictures_in(masks / clip)[:first])
        else:
            warn(f"{clip} has no annotations in {masks}. It has no mask.")
        name = file_name(clip)
        return Task(name=name, group=group, source=source, prompt=prompt, mask=mask, cuts=frozenset(), facts=facts)

    return Tasks((file_name(clip), partial(task, clip)) for clip in present)


def davis_edit(
    root: Path,
    *,
    kinds: Sequence[Kind] = ("text", "image"),
    splits: Sequence[Split] = ("similar", "changing"),
    first: int | None = 16,
    warn: Warn = _silent,
) -> Tasks:
    """One task for each clip, kind of prompt and split, as `CLIP-KIND-SPLIT`; the group is `KIND-SPLIT`.

    `text` tasks are told by their caption, `image` tasks also by `reference_picture`. `first` frames are used (the paper's
    protocol: 16). What the data set lacks (frames, captions, pictures, annotations) is told to `warn`, and tasks that cannot
    be without it are left out. Raises `InputError` where a file of captions is missing or damaged, or no task is left.
    """
    _check_first(first)
    for given, known in ((kinds, get_args(Kind)), (splits, get_args(Split))):
        for one in given:
            if one not in known:
                raise ConfigError(f"DAVIS-Edit has no {one!r}. Nearest: {nearest(one, known)}.")
    rows = [row for kind in kinds for row in _edits(root, kind, splits, warn)]
    if not rows:
        raise InputError(f"{root} holds no task of {', '.join(kinds)} and {', '.join(splits)}. Check its folders and captions.")
    return Tasks(
        (file_name(f"{clip}-{kind}-{split}"), partial(_edit_task, root, (clip, kind, split), wanted, first=first, warn=warn))
        for clip, kind, split, wanted in rows
    )


# --------------------------------------------------------------------------------------------------------- DAVIS's parts


def _check_first(first: int | None) -> None:
    if first is not None and first < 1:
        raise InputError(f"There are no first {first} frames. Give a number above 0, or None for all.")


def _roots(root: Path, resolution: str | None) -> tuple[Path, Path]:
    """The folders that hold the clips' frames and the clips' annotations."""
    frames, masks = root / "JPEGImages", root / "Annotations"
    inside = folders_in(frames)
    if not inside:
        raise InputError(f"{frames} holds no folders of frames. Give the folder that JPEGImages lies in.")
    if any(pictures_in(one) for one in inside):
        if resolution is not None:
            raise InputError(f"{frames} holds clips, no resolutions like {resolution!r}. Leave the resolution out.")
        return frames, masks
    names = [one.name for one in inside if any(pictures_in(clip) for clip in folders_in(one))]
    if not names:
        raise InputError(f"{frames} holds no pictures two levels down. Give the folder that JPEGImages lies in.")
    if resolution is None and len(names) > 1:
        raise InputError(f"{frames} holds several resolutions: {', '.join(names)}. Choose one of them.")
    chosen = names[0] if resolution is None else resolution
    if chosen not in names:
        raise InputError(f"{frames} has no resolution {chosen!r}. Nearest: {nearest(chosen, names)}.")
    return frames / chosen, masks / chosen if (masks / chosen).is_dir() else masks


def _listed(root: Path, split: str) -> list[str]:
    """The clips that a list of ImageSets names, in its order: one a line, or (2016) a frame and its annotation a line."""
    lists = root / "ImageSets"
    known = {one.relative_to(lists).with_suffix("").as_posix(): one for one in sorted(lists.rglob("*.txt"))}
    fitting = [name for name in known if name == split] or [name for name in known if PurePosixPath(name).name == split]
    if not fitting:
        raise InputError(f"{lists} has no list called {split!r}. Nearest: {nearest(split, known) or 'it has none'}.")
    if len(fitting) > 1:
        raise InputError(f"{lists} has several lists called {split!r}: {', '.join(fitting)}. Choose one of them.")
    words = [line.split()[0] for line in known[fitting[0]].read_text("utf-8-sig").splitlines() if line.split()]
    return list(dict.fromkeys(PurePosixPath(word).parent.name if "/" in word else word for word in words))


def _mask(frames: Path, masks: Path, source: Clip) -> Clip:
    """The mask of the first frames, from the annotations of all. Raises `InputError` where the folders do not fit together."""
    count, files = len(pictures_in(frames)), pictures_in(masks)
    if len(files) != count:
        raise InputError(
            f"{frames} has {count} frames and {masks} {len(files)} annotations. Give one for each frame, or none at all."
        )
    return annotations(files[: len(source)], source)


# ---------------------------------------------------------------------------------------------------- DAVIS-Edit's parts


def _captions(root: Path, kind: Kind) -> dict[str, object]:
    path = root / f"edited_video_caption_dict_{kind}.json"
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}). Give the folder of DAVIS-Edit.") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}). Copy it again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no captions by clip. Copy it again.")
    return found


def _edits(root: Path, kind: Kind, splits: Sequence[Split], warn: Warn) -> Iterator[tuple[str, Kind, Split, tuple[str, str]]]:
    """Clip, kind, split, and the wanted and the original caption of every task of a kind."""
    captions = _captions(root, kind)
    for one in folders_in(root / "JPEGImages"):
        if one.name not in captions and pictures_in(one):
            warn(f"{one.name} has no captions for {kind} prompts. It is left out.")
    for clip in sorted(captions):
        entry = captions[clip]
        texts = {key: value for key, value in entry.items() if isinstance(value, str)} if isinstance(entry, dict) else {}
        if not _is_plain(clip) or not pictures_in(root / "JPEGImages" / clip):
            warn(f"{clip} has captions and no frames in {root / 'JPEGImages'}. It is left out.")
            continue
        for split in splits:
            if not texts.get(split):
                warn(f"{clip} has no caption {split!r} for {kind} prompts. It is left out there.")
            elif kind == "image" and _reference(root, clip, split) is None:
                warn(f"{clip} has no reference picture {split!r}. It is left out there.")
            else:
                yield clip, kind, split, (texts[split], texts.get("original", ""))


def _is_plain(name: str) -> bool:
    """Whether a clip's name stays inside its folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _reference(root: Path, clip: str, split: Split) -> Path | None:
    """The reference picture of a clip: from its split's folder, or from a tree without such folders."""
    pictures = root / "ReferenceImages"
    folder = pictures / split if any((pictures / one).is_dir() for one in get_args(Split)) else pictures
    return next((one for one in pictures_in(folder) if one.stem == clip), None)


def _edit_task(root: Path, which: tuple[str, Kind, Split], captions: tuple[str, str], *, first: int | None, warn: Warn) -> Task:
    clip, kind, split = which
    frames = root / "JPEGImages" / clip
    whole = read(frames)
    source = whole[:first]
    if first is not None and len(whole) < first:
        warn(f"{clip} has {len(whole)} frames, fewer than {first}. All of them are used.")
    if not captions[1]:
        warn(f"{clip} has no original caption for {kind} prompts. What compares with it will be missing.")
    facts: dict[str, str | int | float] = {"frames": hash_of(*pictures_in(frames)[:first])}
    mask, masks = None, root / "Annotations" / clip
    try:
        if pictures_in(masks):
            mask = _mask(frames, masks, source)
            facts["annotations"] = hash_of(*pictures_in(masks)[:first])
        else:
            warn(f"{clip} has no annotations. It has no mask.")
    except InputError as error:
        warn(f"{clip} has no mask. {error}")
    reference = _reference(root, clip, split) if kind == "image" else None
    if reference is not None:
        facts["reference"] = hash_of(reference)
        if reference.parent.name != split:
            warn(f"{clip} has one reference picture for all splits, {reference}. It is used for {split!r}.")
    return Task(
        name=file_name(f"{clip}-{kind}-{split}"),
        group=f"{kind}-{split}",
        source=source,
        prompt=captions[0],
        source_prompt=captions[1],
        mask=mask,
        cuts=frozenset(),
        reference_picture=reference,
        facts=facts,
    )
