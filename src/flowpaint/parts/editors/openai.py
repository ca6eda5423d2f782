"""`OpenAiEditor`: one picture at a time through a server that speaks OpenAI's `POST {url}/images/edits`."""

import base64
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ...carry import finished
from ...errors import ConfigError, InputError
from ...types import Edit, Task, check_shape
from ...weights.policy import warn
from .asked import check_task
from .canvas import Canvas, png, touched, with_hole
from .wire import Wire, checked_url

_VARIABLE = "FLOWPAINT_EDIT_URL"
_SIZE = re.compile(r"([1-9][0-9]{1,3})x([1-9][0-9]{1,3})")
_ANSWERS_IN_BASE64 = ("gpt-image", "chatgpt-image")  # models that always do, and refuse to be asked for it


@dataclass(frozen=True, kw_only=True)
class OpenAiEditor:
    """A picture edited by words, or by words and a reference picture, through any server with OpenAI's interface for images.

    `url` is its address up to the version ("https://api.openai.com/v1"), "" what the environment variable FLOWPAINT_EDIT_URL
    says. The key is read from FLOWPAINT_EDIT_KEY, for OpenAI itself also from OPENAI_API_KEY, and kept nowhere. `size` "auto"
    sends the picture at its own size; "1024x1024" sends one of that width and height with the picture in its middle.

    Nothing promises the same picture for the same seed: the interface has no seed. `send_seed` sends one to servers that know
    it. A call that timed out is sent again, `retries` times, and may be paid for twice.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"words", "instruction", "reference"})
    url: str = ""
    model: str = "gpt-image-1"
    size: str = "auto"
    response_format: Literal["auto", "b64_json", "url"] = "auto"
    send_seed: bool = False
    timeout: float = 180.0
    retries: int = 3

    def __post_init__(self) -> None:
        checked_url(self.url)
        if self.size != "auto" and not _SIZE.fullmatch(self.size):
            raise ConfigError(f"The size {self.size!r} is none. Write width and height like 1024x1024, or auto.")
        if not self.timeout > 0 or self.retries < 0:
            raise ConfigError(
                f"A timeout of {self.timeout:g} s with {self.retries} repetitions cannot be kept. "
                "Give more than 0 s, and 0 repetitions or more."
            )

    def check(self) -> None:
        """Raises `ConfigError` where there is no server to ask, or the key must not go there."""
        self._wire().check()

    @torch.no_grad()
    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that the server makes of `image` [3, H, W] in [0, 1].

        The mask's inside is sent as transparent. Raises `InputError` without words, for an edit that the interface has no fields
        for, and for an answer of another aspect; `ConfigError` and `WorkError` as `Wire` does.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        check_task(edit, self.tasks, "openai")
        if not edit.prompt.strip():
            raise InputError("The server needs words that say what to show or to change. Give a prompt.")
        if edit.negative.strip():
            warn("OpenAI's interface has no field for words against, so --negative is not used. Say it in the prompt.")
        canvas, wire = self._canvas(*image.shape[-2:]), self._wire()
        answer = wire.parsed(wire.post("/images/edits", **self._body(image, edit, canvas, generator)))
        made, _ = wire.picture(_content(wire, answer))
        return finished(canvas.cut(made).to(image), image, edit)

    def _wire(self) -> Wire:
        return Wire.to(self.url, _VARIABLE, timeout=self.timeout, retries=self.retries)

    def _canvas(self, height: int, width: int) -> Canvas:
        asked = _SIZE.fullmatch(self.size)
        return Canvas.letterbox(height, width, (int(asked[2]), int(asked[1])) if asked else (height, width))

    def _body(self, image: Tensor, edit: Edit, canvas: Canvas, generator: torch.Generator) -> dict[str, Any]:
        """The fields and files of the request."""
        height, width = canvas.full
        fields = {"prompt": edit.prompt, "model": self.model, "n": "1", "size": f"{width}x{height}"}
        if self.response_format != "auto":
            fields["response_format"] = self.response_format
        elif not self.model.startswith(_ANSWERS_IN_BASE64):
            fields["response_format"] = "b64_json"
        if self.send_seed:
            fields["seed"] = str(int(torch.randint(2**31, (), generator=generator)))
        laid, mask = canvas.lay(image), touched(edit, image)
        pictures = [("image", png(laid))]
        if edit.reference is not None:
            pictures = [("image[]", png(laid)), ("image[]", png(edit.reference))]
        if mask is not None:
            pictures.append(("mask", png(with_hole(laid, canvas.lay(mask, around="zero")))))
        files = [(name, (f"{name.rstrip('[]')}{number}.png", file, "image/png")) for number, (name, file) in enumerate(pictures)]
        return {"data": fields, "files": files}


def _content(wire: Wire, answer: Any) -> bytes:
    """The picture file in an answer, `data[0].b64_json`, or at the address in it, `data[0].url`."""
    try:
        first = answer["data"][0]
        coded, address = first.get("b64_json"), first.get("url")
    except (TypeError, KeyError, IndexError, AttributeError):
        coded = address = None
    if isinstance(coded, str):
        try:
            return base64.b64decode("".join(coded.rpartition(",")[2].split()), validate=True)
        except ValueError as error:
            raise wire.garbage("a picture in broken base64", coded) from error
    if isinstance(address, str):
        return wire.fetch(address)
    raise wire.garbage("no picture in data[0]", str(answer))
