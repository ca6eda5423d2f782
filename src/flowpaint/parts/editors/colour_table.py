"""`ColourTable`: a function of colour alone, applied to 8-bit pictures by looking each colour up."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...types import from_raw, to_raw

Bytes = npt.NDArray[np.uint8]  # [H, W, 3]

_COLOURS = 1 << 24
_STRIP = 1 << 16  # pixels worked on at once: their packed colours stay in the processor's cache
_KNOWN = 255  # the fourth byte of an entry that has been worked out
_ADDRESS = 0x00FFFFFF


class ColourTable:
    """What `function` makes of each of the 16.7 million 8-bit colours. A colour is worked out when it is first met.

    `function` takes and returns colours [3, 1, N] in [0, 1]; each must depend on its own colour alone. The table takes up to
    64 MiB. Several threads may use one table: they would store equal entries.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._entries = np.zeros(_COLOURS, np.uint32)  # red in the lowest byte; 0 = not met yet
        self._lookup = torch.from_numpy(self._entries.view(np.int32))

    def __call__(self, picture: Bytes) -> Bytes:
        """Return the picture [H, W, 3] with each colour of `picture` [H, W, 3] replaced by the function's."""
        made = np.empty_like(picture)
        rows = max(1, _STRIP // picture.shape[1])
        for top in range(0, len(picture), rows):
            self._replace(np.ascontiguousarray(picture[top : top + rows]), made[top : top + rows])
        return made

    def _replace(self, strip: Bytes, made: Bytes) -> None:
        packed = cv2.cvtColor(strip, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0]
        packed &= _ADDRESS
        found = torch.index_select(self._lookup, 0, torch.from_numpy(packed.view(np.int32).reshape(-1)))
        entries = found.numpy().view(np.uint32).reshape(packed.shape)
        if entries.min() == 0:  # every entry that was worked out has its fourth byte set
            self._work_out(packed[entries == 0])
            entries = self._entries[packed]
        cv2.cvtColor(entries.view(np.uint8).reshape(*packed.shape, 4), cv2.COLOR_RGBA2RGB, dst=made)

    def _work_out(self, colours: npt.NDArray[np.uint32]) -> None:
        colours = np.unique(colours)
        levels = colours.view(np.uint8).reshape(1, -1, 4)
        made = to_raw(self._function(from_raw(levels[..., :3])))
        entry = np.empty((len(colours), 4), np.uint8)
        entry[:, :3], entry[:, 3] = made[0], _KNOWN
        self._entries[colours] = entry.view(np.uint32)[:, 0]
