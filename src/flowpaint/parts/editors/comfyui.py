"""`ComfyUiEditor`: one picture at a time through a workflow of a ComfyUI server."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import torch
from torch import Tensor

from ...carry import finished
from ...errors import ConfigError, InputError, WorkError
from ...types import Edit, Task, check_shape
from . import wire as wires
from .canvas import Canvas, png, touched, with_hole
from .wire import Wire, checked_url

_VARIABLE = "FLOWPAINT_COMFYUI_URL"
_HOLE = re.compile("%(image|mask|reference|sketch|prompt|negative|seed)%")
_EXPORT = "Export it from ComfyUI in API format, with %image% as the file of a LoadImage node"


@dataclass(frozen=True, kw_only=True)
class ComfyUiEditor:
    """A picture edited by a ComfyUI server, as the JSON file `workflow`, exported in API format, says.

    In its texts %image%, %mask%, %reference% and %sketch% stand for the names of uploaded pictures (a LoadImage node's `image`),
    %prompt% and %negative% for the words; "%seed%" alone is a number. `url` is the server's address, "" what the environment
    variable FLOWPAINT_COMFYUI_URL says; a key for it is read from FLOWPAINT_EDIT_KEY. `output` is the number of the node whose
    picture is taken, "" the only one that saves one. Sides are padded to multiples of `multiple` pixels and cut back.

    The mask is uploaded white and transparent where to edit, so that LoadImage's mask and LoadImageMask's red are 1 there. The
    same seed gives the same picture only where the workflow's nodes and its server's card promise that, and %seed% is in it. A
    request that timed out is sent again, `retries` times; the job may then run twice. A job may take `limit` seconds.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({"words", "instruction", "reference", "sketch", "removal"})
    workflow: str = ""
    url: str = ""
    output: str = ""
    multiple: int = 8
    limit: float = 600.0
    interval: float = 0.5
    timeout: float = 60.0
    retries: int = 3

    def __post_init__(self) -> None:
        checked_url(self.url)
        if not (self.timeout > 0 and self.limit > 0 and self.interval > 0) or self.retries < 0 or self.multiple < 1:
            raise ConfigError(
                f"Times of {self.timeout:g}, {self.limit:g} and {self.interval:g} s, {self.retries} repetitions and multiples of "
                f"{self.multiple} cannot be kept. Give times above 0, repetitions of 0 or more, a multiple of 1 or more."
            )

    def check(self) -> None:
        """Raises `ConfigError` where there is no server or no workflow, or the key must not go there."""
        self._wire().check()
        self._nodes()

    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that the workflow makes of `image` [3, H, W] in [0, 1]. Raises as `with_mask` does."""
        return self.with_mask(image, edit, generator)[0]

    @torch.no_grad()
    def with_mask(self, image: Tensor, edit: Edit, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """That picture, and the mask [1, H, W] in [0, 1] of the new object: what the answer shows as opaque.

        None where nothing of the answer is transparent, and so nothing told. Raises `InputError` where the workflow has no place
        for what the edit is given, and for an answer of another aspect; `ConfigError` for a workflow that is none; `WorkError`
        where a node fails or the job takes longer than `limit`, and both as `Wire` does.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image, None
        nodes, wire = self._nodes(), self._wire()
        _check_places(nodes, edit)
        canvas = Canvas.padded(image.shape[-2], image.shape[-1], self.multiple)
        job = _filled(nodes, _values(wire, canvas, image, edit, generator))
        answer = wire.parsed(wire.post("/prompt", told=_refusal, json={"prompt": job}))
        if isinstance(answer, dict) and answer.get("node_errors"):
            raise self._failed(wire, _refusal(answer))
        if not isinstance(answer, dict) or not isinstance(answer.get("prompt_id"), str):
            raise wire.garbage("no number of a job", str(answer))
        saved = self._picked(wire, self._outputs(wire, answer["prompt_id"]))
        shown, opaque = wire.picture(wire.get("/view", **saved))
        made = finished(canvas.cut(shown).to(image), image, edit)
        told = opaque is not None and bool((opaque < 1).any())
        return made, canvas.cut(opaque).to(image) if told and opaque is not None else None

    def _wire(self) -> Wire:
        return Wire.to(self.url, _VARIABLE, timeout=self.timeout, retries=self.retries)

    def _nodes(self) -> dict[str, Any]:
        """The workflow. Raises `ConfigError` for a file that holds none in API format."""
        if not self.workflow:
            raise ConfigError(f"The editor comfyui has no workflow. Set its field `workflow` to a file. {_EXPORT}.")
        try:
            found = json.loads(Path(self.workflow).expanduser().read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"The workflow {self.workflow} cannot be read ({error}). {_EXPORT}.") from error
        if not isinstance(found, dict) or not found or not all(_is_node(one) for one in found.values()):
            raise ConfigError(f"The workflow {self.workflow} is not in ComfyUI's API format. {_EXPORT}.")
        if "image" not in _places(found):
            raise ConfigError(f"The workflow {self.workflow} has no %image%, so it would not edit the picture. {_EXPORT}.")
        return found

    def _outputs(self, wire: Wire, number: str) -> Mapping[str, Any]:
        """What the nodes of a job have put out, once it is done."""
        for _ in range(math.ceil(self.limit / self.interval)):
            history = wire.parsed(wire.get(f"/history/{quote(number, safe='')}"))
            done = history.get(number) if isinstance(history, dict) else None
            if isinstance(done, dict):
                status = done.get("status") or {}
                if status.get("status_str") == "error":
                    raise self._failed(wire, _breakdown(status))
                if status.get("completed", True):
                    outputs = done.get("outputs")
                    return outputs if isinstance(outputs, dict) else {}
            elif history != {}:
                raise wire.garbage("no history of the job", str(history))
            wires.pause(self.interval)
        raise WorkError(
            f"The job at {wire.url} had not finished after {self.limit:g} s. Give it longer by the field `limit`, or look at the "
            "server's queue. The run resumes where it stopped: repeat the command."
        )

    def _picked(self, wire: Wire, outputs: Mapping[str, Any]) -> dict[str, str]:
        """The picture that counts, as the server knows it. Raises `ConfigError` where several nodes save one."""
        named = {node: one for node, one in outputs.items() if _pictures(one)}
        kept = {node: one for node, one in named.items() if any(file.get("type") == "output" for file in _pictures(one))} or named
        if self.output:
            kept = {node: one for node, one in named.items() if node == self.output}
        if len(kept) > 1:
            raise ConfigError(
                f"The nodes {', '.join(sorted(kept))} of {self.workflow} all save a picture. "
                "Set the field `output` to one of them."
            )
        if not kept:
            which = f"node {self.output}" if self.output else "any node"
            raise self._failed(wire, f"no picture of {which} came out")
        (only,) = kept.values()
        files = _pictures(only)
        file = next((one for one in files if one.get("type") == "output"), files[0])
        return {key: str(file.get(key, "")) for key in ("filename", "subfolder", "type")}

    def _failed(self, wire: Wire, said: str) -> WorkError:
        return WorkError(
            f"The workflow {self.workflow} failed at {wire.url}: {wire.words(said)}. Run it in ComfyUI once, then repeat the "
            "command: the run resumes where it stopped."
        )


# -------------------------------------------------------------------------------------------------------- the workflow


def _is_node(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("class_type"), str) and isinstance(one.get("inputs"), dict)


def _texts(value: Any) -> Iterator[str]:
    """Every text among the inputs of nodes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _places(nodes: Mapping[str, Any]) -> set[str]:
    return {name for node in nodes.values() for text in _texts(node["inputs"]) for name in _HOLE.findall(text)}


def _check_places(nodes: Mapping[str, Any], edit: Edit) -> None:
    """Raises `InputError` where the edit gives what the workflow has no place for, or does not give what it asks for."""
    given = {
        "prompt": bool(edit.prompt.strip()),
        "negative": bool(edit.negative.strip()),
        "reference": edit.reference is not None,
        "sketch": edit.sketch is not None,
    }
    places = _places(nodes)
    for name, is_given in given.items():
        if is_given and name not in places:
            raise InputError(
                f"The workflow has no %{name}%, so the {name} would not be used. Put it in, or leave the {name} out."
            )
        if name in places and not is_given and name != "negative":
            raise InputError(f"The workflow asks for a {name} (%{name}%) and the edit has none. Give one, or take it out.")


def _values(
    wire: Wire, canvas: Canvas, image: Tensor, edit: Edit, generator: torch.Generator
) -> Mapping[str, Callable[[], str | int]]:
    """What stands for each name between percent signs; pictures are uploaded when they are asked for."""
    seed = int(torch.randint(2**31, (), generator=generator))
    mask = touched(edit, image)

    def masked() -> str:
        where = canvas.lay(torch.ones_like(image[:1]) if mask is None else mask, around="zero")
        return _uploaded(wire, with_hole(where.expand(3, -1, -1), where))

    return {
        "image": lambda: _uploaded(wire, canvas.lay(image)),
        "mask": masked,
        "reference": lambda: _uploaded(wire, edit.reference),
        "sketch": lambda: _uploaded(wire, edit.sketch),
        "prompt": lambda: edit.prompt,
        "negative": lambda: edit.negative,
        "seed": lambda: seed,
    }


def _uploaded(wire: Wire, planes: Tensor | None) -> str:
    """The name by which the server's LoadImage nodes know a picture that was sent to it: equal pictures have one name."""
    assert planes is not None  # the workflow's places were checked
    file = png(planes)
    name = f"flowpaint-{hashlib.sha256(file).hexdigest()[:16]}.png"
    content = wire.post("/upload/image", files={"image": (name, file, "image/png")}, data={"type": "input", "overwrite": "true"})
    answer = wire.parsed(content)
    if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
        raise wire.garbage("no name of the picture that it was sent", content)
    folder = answer.get("subfolder")
    return f"{folder}/{answer['name']}" if isinstance(folder, str) and folder else answer["name"]


def _filled(nodes: Mapping[str, Any], values: Mapping[str, Callable[[], str | int]]) -> dict[str, Any]:
    """The workflow with what stands for each name in place of it; each is made once. What is put in is not looked through."""
    made: dict[str, str | int] = {}

    def value(name: str) -> str | int:
        if name not in made:
            made[name] = values[name]()
        return made[name]

    def put(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: put(inner) for key, inner in one.items()}
        if isinstance(one, list):
            return [put(inner) for inner in one]
        if not isinstance(one, str):
            return one
        return value("seed") if one == "%seed%" else _HOLE.sub(lambda found: str(value(found[1])), one)

    return {number: {**node, "inputs": put(node["inputs"])} for number, node in nodes.items()}


# ---------------------------------------------------------------------------------------------------------- the answers


def _pictures(output: Any) -> list[Mapping[str, Any]]:
    files = output.get("images") if isinstance(output, dict) else None
    return [one for one in files if isinstance(one, dict) and one.get("filename")] if isinstance(files, list) else []


def _refusal(answer: Any) -> str:
    """What the server has against a workflow, node by node, in words."""
    told = []
    for number, node in (answer.get("node_errors") or {}).items():
        for error in node.get("errors", []):
            told.append(f"node {number} ({node.get('class_type')}): {error.get('message')} {error.get('details') or ''}".strip())
    error = answer.get("error")
    return "; ".join(told) or str(error.get("message") if isinstance(error, dict) else error or answer)


def _breakdown(status: Mapping[str, Any]) -> str:
    """Which node broke and why, in words, from the messages of a job."""
    for message in status.get("messages") or []:
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            kind, told = message
            if kind == "execution_error":
                return f"node {told.get('node_id')} ({told.get('node_type')}): {str(told.get('exception_message')).strip()}"
            if kind == "execution_interrupted":
                return f"it was interrupted at node {told.get('node_id')} ({told.get('node_type')})"
    return "it ended in an error that it does not tell"
