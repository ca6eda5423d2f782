"""The public names, and a docstring for each of them."""

import ast
import inspect
from pathlib import Path

import pytest

import flowpaint

SOURCE = Path(flowpaint.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))


def public(tree):
    """Every public module, class, function and method in a file, with its name."""
    for node in ast.walk(tree):
        body = getattr(node, "body", [])
        if isinstance(node, (ast.Module, ast.ClassDef)) and not getattr(node, "name", "").startswith("_"):
            if isinstance(node, ast.Module) and body:
                yield "the module", node
            for one in body:
                if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and not one.name.startswith("_"):
                    yield one.name, one


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_everything_public_says_what_it_is(path):
    found = list(public(ast.parse(path.read_text("utf-8"))))
    said = {name for name, node in found if (ast.get_docstring(node) or "").splitlines()[:1] not in ([], [""])}
    assert not {name for name, _ in found} - said  # what a protocol says of a method need not be said again


def test_names_are_sorted_and_all_there():
    assert flowpaint.__all__ == sorted(flowpaint.__all__)
    assert set(flowpaint.__all__) == set(flowpaint._ROOMS) <= set(dir(flowpaint))
    for name in flowpaint.__all__:
        assert inspect.getdoc(getattr(flowpaint, name)), name


def test_there_is_nothing_else():
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        flowpaint.paint  # noqa: B018
    assert flowpaint.__version__.count(".") == 2


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_long_public_signature_without_keywords(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls", "ctx")]
            assert len(names) <= 5, f"{node.name} takes {len(names)} positional parameters"
