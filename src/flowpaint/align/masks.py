"""The source's object masks, frame after frame, from what marks the object in one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..seams import Run, Segmenter
from ..types import Clip
from ..warp import resize

_CHUNK = 24  # frames that a segmenter sees at once
_LEAST = 4  # pixels of an object


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Masks of one of a clip's `objects` at `size`: a clip of one mask, of frame 0, is carried to all others by `segmenter`,
    chunk by chunk; one as long as the clip is taken as it is. Finished masks lie in the run's store.
    """

    clip: Clip
    marked: Clip
    segmenter: Segmenter
    size: tuple[int, int]
    name: str
    run: Run

    def of(self, index: int) -> Tensor:
        """The mask [1, 1, h, w], 0 or 1, of frame `index`."""
        if len(self.marked) == len(self.clip) or index == 0:
            return self._marked(index)
        kept = self.run.store.get(self._key(index))
        if kept is None:
            self._carry(index)
            kept = self.run.store.get(self._key(index))
            assert kept is not None, "it was stored just now"
        bits = np.unpackbits(kept["mask"], count=self.size[0] * self.size[1])
        return torch.from_numpy(bits.reshape(1, 1, *self.size)).to(self.run.device, torch.float32)

    def _marked(self, index: int) -> Tensor:
        whole = self.marked.frame(index)[None, :1].to(self.run.device)
        return (resize(whole, *self.size) > 0.5).float()

    def _key(self, index: int) -> str:
        return f"{self.name} mask {self.run.offset + index}"

    def _carry(self, index: int) -> None:
        """Carry the mask from the last frame that has one to the end of the chunk of `index`."""
        done = next((one for one in range(index, 0, -1) if self.run.store.get(self._key(one)) is not None), 0)
        while done < index:
            frames = range(done, min(done + _CHUNK, len(self.clip)))
            pictures = torch.cat([resize(self.clip.frame(one)[None].to(self.run.device), *self.size) for one in frames])
            found = self.segmenter(pictures, self.of(done))
            for one, mask in zip(frames[1:], found[1:], strict=True):
                bits = np.packbits((mask > 0.5).cpu().numpy())
                self.run.store.put(self._key(one), {"mask": bits})
            done = frames[-1]
            self.run.progress("masks", done + 1, len(self.clip))


def check_marked(objects: Sequence[Clip], clip: Clip, *, at: int) -> None:
    """Nothing, where each of `objects` marks something in frame `at` of the `clip`. Raises `InputError` otherwise."""
    for number, marked in enumerate(objects):
        which = "The object" if len(objects) == 1 else f"Object {number + 1}"
        if (marked.height, marked.width) != (clip.height, clip.width):
            raise InputError(
                f"{which} has a mask of {marked.width}x{marked.height} where the video is {clip.width}x{clip.height}. "
                "Make it the same size."
            )
        if len(marked) not in (1, len(clip)):
            raise InputError(
                f"{which} has {len(marked)} masks where the shot has {len(clip)} frames. "
                "Give one for its first frame, or one for each."
            )
        shown = at if len(marked) > 1 else 0
        if float((marked.frame(shown)[0] > 0.5).sum()) >= _LEAST:
            continue
        seen = next((one for one in range(len(marked)) if float((marked.frame(one)[0] > 0.5).sum()) >= _LEAST), None)
        where = (
            "is nowhere to be seen: its mask is empty" if seen is None else f"is first seen in frame {seen}, not in frame {at}"
        )
        advice = "Mark it where it is white in the mask." if seen is None else f"Begin there with --start, or edit frame {seen}."
        raise InputError(f"{which} {where}. {advice}")
