"""Video in and out: the only room that knows FFmpeg.

`read` gives a lazy `Clip`, `write` makes a file of one, `probe` tells what a file holds, `shots` finds its cuts.
"""

from .border import Progress, Warn
from .check import check
from .encoding import Encoding
from .picture import picture_size, read_picture, write_picture
from .probe import Facts, Track, container_of, probe, read_comment
from .read import read
from .shots import shots
from .write import write

__all__ = [
    "Encoding",
    "Facts",
    "Progress",
    "Track",
    "Warn",
    "check",
    "container_of",
    "picture_size",
    "probe",
    "read",
    "read_comment",
    "read_picture",
    "shots",
    "write",
    "write_picture",
]
