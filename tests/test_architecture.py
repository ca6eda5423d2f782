"""Who imports whom, how large things are, and how quickly the package is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flowpaint
from flowpaint import seams

SOURCE = Path(flowpaint.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
GROUND = {
    "types",
    "errors",
    "warp",
    "colour",
    "timecode",
    "smoothing",
    "carry",
    "regression",
    "enlarge",
    "labels",
    "inpainting",
    "outputs",
    "texture",
    "parallel",
}
CORE = GROUND | {"seams", "moments", "hints", "weights", "runs", "report", "register", "plan", "video", "scenes"}
MAY = {
    "types": {"errors"},
    "errors": set(),
    "outputs": {"errors"},
    "warp": {"types", "errors"},
    "colour": {"types", "errors", "warp"},
    "carry": {"types", "errors", "warp", "colour"},
    "timecode": {"types", "errors"},
    "smoothing": {"types", "errors", "warp"},
    "parallel": {"types"},
    "regression": {"types", "errors", "smoothing"},
    "labels": {"smoothing"},
    "texture": {"types"},
    "inpainting": {"types", "errors", "warp", "smoothing"},
    "enlarge": {"types", "warp", "smoothing", "regression"},
    "plan": GROUND,
    "table": set(),
    "telemetry": set(),
    "seams": GROUND | {"table"},
    "moments": GROUND | {"seams"},
    "hints": {"types", "warp", "smoothing", "seams"},
    "weights": GROUND,
    "runs": GROUND,
    "report": GROUND,
    "register": GROUND,
    "video": {"types", "errors", "outputs", "parallel"},
    "scenes": GROUND | {"seams"},
    "align": CORE,
    "diffusion": {"types", "errors", "warp", "smoothing", "weights", "seams", "hints", "networks", "colour"},
    "networks": {"types", "errors", "warp", "weights"},
    "parts": GROUND | {"seams", "moments", "hints", "weights", "networks", "diffusion", "plan", "register"},
    "methods": GROUND | {"seams", "hints", "runs", "diffusion", "plan", "align"},
    "evaluation": CORE | {"parts", "diffusion", "align"},
    "training": CORE | {"parts", "networks", "diffusion"},
    "api": CORE | {"parts", "methods", "evaluation", "training", "diffusion", "telemetry"},
    "jobs": CORE | {"api"},
    "web": {"api", "jobs", "types", "errors"},
    "cli": {"api", "jobs", "web", "types", "errors"},
    "__main__": {"cli"},
    "__init__": {"telemetry"},
}
PRIVATE = {
    "av": {"video"},
    "scenedetect": {"video"},
    "onnxruntime": {"parts"},
    "cv2": {"parts", "align", "labels", "register", "report", "texture", "video", "parallel"},
    "torchmetrics": {"parts"},
    "scipy": {"parts"},
    "transformers": {"parts", "networks", "diffusion", "weights", "training"},
    "huggingface_hub": {"weights"},
    "diffusers": {"parts", "networks", "diffusion", "training"},
    "accelerate": {"training"},
    "tensorboard": {"training"},
    "typer": {"cli"},
    "rich": {"cli"},
    "requests": {"parts"},
    "urllib3": {"parts"},
    "ray": {"parts"},
    "fsspec": {"jobs"},
    "sqlite3": {"jobs"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "gradio": {"web"},
    "httpx": {"web"},
    "prometheus_client": {"web"},
}
# The files and folders behind the names of parts and methods: none of them knows another. Trainers share what they train with.
TARGETS = [target.partition(":")[0].split(".")[1:3] for rows in seams.TABLE.values() for target in rows.values()]
UNITS = {(room, unit) for room, unit in TARGETS if room != "training"}
FORBIDDEN = {"utils", "helpers", "common", "misc", "manager", "base", "engine"}
HEAVY = ("torch", "diffusers", "transformers", "ray", "cv2", "av", "fastapi", "gradio")


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path):
    """The full names that a file imports when it runs (not for annotations alone), and whether each is ours."""
    tree = ast.parse(path.read_text("utf-8"))
    unread = {id(one) for node in ast.walk(tree) if _is_for_types(node) for one in ast.walk(node)}
    package = ("flowpaint", *path.relative_to(SOURCE).parent.parts)
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (start, node.module) if part)
            yield from (f"{name}.{one.name}" for one in node.names)


def _is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_keeps_to_its_room(path):
    here = room(path)
    assert here in MAY, f"{here} is a room that the architecture does not know"
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "flowpaint" and rest:
            there = rest[0]
            assert there == here or there in MAY[here], f"{here} imports {name}"
            if there == here and len(rest) > 1:
                assert rest[1] == _unit(path) or (here, rest[1]) not in UNITS, f"{path.name} imports another one's {name}"
        assert here in PRIVATE.get(first, {here}), f"{here} imports {first}"


def _unit(path):
    """The part or method that a file belongs to: its own name, or that of its folder."""
    return path.relative_to(SOURCE).parts[:2][-1].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_sizes_and_names(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 400
    assert len(path.relative_to(SOURCE).parts) <= 3, "deeper than two folders"
    assert path.stem not in FORBIDDEN
    assert "../shared" not in text and "/work/" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 50, f"{node.name} is longer than 50 lines"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"print in line {node.lineno}"


def test_importing_costs_nothing():
    script = (
        "import time; start = time.perf_counter(); import flowpaint; spent = time.perf_counter() - start; "
        f"import sys; print(spent, *[name for name in {HEAVY} if name in sys.modules])"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in range(3)]
    told = [run.stdout.split() for run in runs]
    assert min(float(one[0]) for one in told) < 0.3
    assert all(one[1:] == [] for one in told)
