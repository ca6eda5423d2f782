"""`LamaEditor`: what it shows the network, what it takes of its answer, and which files it refuses."""

import numpy as np
import pytest
import torch

from flowpaint import weights
from flowpaint.errors import ConfigError, InputError, LicenceError, WeightsError
from flowpaint.parts.editors import LamaEditor, lama
from flowpaint.types import Clip, Edit
from flowpaint.weights import Policy, keeping
from hub_cache import keep
from tiny_editors import FILL, save_lama

FILLED = torch.tensor(FILL)[:, None, None]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("lama")
    save_lama(root / "fixed.onnx")
    save_lama(root / "free.onnx", "w", height="h")
    return root


def removal(height, width, *boxes, **more):
    """The edit that takes out what is in `boxes` (rows, columns), and its mask [H, W]."""
    mask = torch.zeros(1, 3, height, width)
    for box in boxes:
        mask[0, :, box[0] : box[1], box[2] : box[3]] = 1.0
    return Edit(remove=True, mask=Clip.from_array(mask), **more), mask[0, 0] > 0


def apply(editor, image, edit):
    return editor(image, edit, torch.Generator())


def picture(height, width):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(3))


CASES = [
    ((64, 64), [(20, 30, 20, 30)]),  # the picture is the network's size
    ((40, 50), [(20, 30, 20, 30)]),  # smaller
    ((200, 300), [(100, 110, 150, 160)]),  # larger, the hole fits
    ((200, 300), [(20, 180, 50, 250)]),  # the hole is larger than the network
    ((200, 300), [(0, 5, 0, 5), (190, 200, 290, 300)]),  # in two corners
    ((5, 90), [(1, 3, 40, 50)]),
    ((90, 16), [(80, 90, 0, 16)]),
]


@pytest.mark.parametrize("file", ["fixed.onnx", "free.onnx"])
@pytest.mark.parametrize("size, boxes", CASES)
def test_the_hole_shows_what_the_network_made_and_the_rest_is_the_pictures(root, file, size, boxes):
    image = picture(*size)
    edit, mask = removal(*size, *boxes)
    made = apply(LamaEditor(weights=str(root / file), grow=3, side=64), image, edit)
    assert (made[:, mask] - FILLED[:, 0]).abs().max() < 1e-5
    grown = torch.nn.functional.max_pool2d(mask[None, None].float(), 7, stride=1, padding=3)[0, 0] > 0
    assert torch.equal(made[:, ~grown], image[:, ~grown])


def test_the_mask_grows_by_fifteen_pixels_square_at_davis_size(root):
    image = picture(480, 854)
    edit, _ = removal(480, 854, (200, 210, 400, 420))
    changed = (apply(LamaEditor(weights=str(root / "fixed.onnx")), image, edit) != image).any(dim=0)
    rows, columns = (changed.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (193, 216, 393, 426)


class Watched:
    """A session that keeps what it is shown and paints everything white."""

    def __init__(self, side):
        self.side, self.fed = side, []

    def run(self, names, feed):
        self.fed.append(feed)
        return [np.full_like(feed["image"], 255.0)]


@pytest.fixture
def watched(monkeypatch):
    session = Watched(64)
    network = lama._Network(session, image="image", mask="mask", side=64)
    monkeypatch.setattr(lama, "_network", lambda file: network)
    return session


def test_a_small_hole_is_shown_at_the_pictures_own_size(root, watched):
    image = picture(200, 300)
    edit, _ = removal(200, 300, (100, 110, 150, 160))
    made = apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=2), image, edit)
    (fed,) = watched.fed
    shown, hole = torch.from_numpy(fed["image"])[0], torch.from_numpy(fed["mask"])[0, 0]
    assert shown.shape == (3, 64, 64) and torch.equal(shown, image[:, 73:137, 123:187])
    assert hole.sum() == 14 * 14 and (hole[25:39, 25:39] == 1).all()
    assert (made[:, 100:110, 150:160] == 1).all()


def test_a_small_picture_is_shown_at_its_own_size_and_padded(root, watched):
    image = picture(40, 50)
    edit, _ = removal(40, 50, (10, 20, 15, 25))
    apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=0), image, edit)
    (fed,) = watched.fed
    shown = torch.from_numpy(fed["image"])[0]
    assert torch.equal(shown[:, :40, :50], image) and fed["mask"].sum() == 100
    assert (shown[:, :, 50:] == shown[:, :, 49:50]).all() and (shown[:, 40:] == shown[:, 39:40]).all()


def test_a_hole_beside_the_rim_is_shown_with_what_there_is(root, watched):
    image = picture(200, 300)
    edit, _ = removal(200, 300, (0, 10, 290, 300))
    apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=0), image, edit)
    (fed,) = watched.fed
    assert torch.equal(torch.from_numpy(fed["image"])[0], image[:, :64, 236:])
    assert (fed["mask"][0, 0, :10, 54:] == 1).all() and fed["mask"].sum() == 100


def test_a_large_hole_is_shown_whole_with_half_its_size_around_it(root, watched):
    image = picture(200, 300)
    edit, _ = removal(200, 300, (80, 120, 100, 180))
    apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=0), image, edit)
    (fed,) = watched.fed
    # 40 + 2 x 40 rows and 80 + 2 x 40 columns in 64 pixels: a scale of 0.4, 48 rows; the rest is padding.
    hole = fed["mask"][0, 0]
    assert (hole[16:32, 16:48] == 1).all() and hole.sum() == 16 * 32
    truth = torch.nn.functional.interpolate(image[None, :, 40:160, 60:220], size=(48, 64), mode="area")[0]
    assert (torch.from_numpy(fed["image"])[0, :, :48] - truth).abs().max() < 1e-6
    assert (fed["image"][0, :, 48:] == fed["image"][0, :, 47:48]).all()


def test_half_of_the_strength_is_halfway(root):
    image = picture(64, 64)
    edit, mask = removal(64, 64, (20, 30, 20, 30), strength=0.5)
    made = apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=0), image, edit)
    assert (made[:, mask] - (image[:, mask] + FILLED[:, 0]) / 2).abs().max() < 1e-5


@pytest.mark.parametrize(
    "edit, said",
    [
        (Edit(remove=True), "Give a mask"),
        (removal(40, 40)[0], "marks nothing"),
        (removal(40, 40, (2, 38, 2, 38))[0], "covers the whole picture"),
    ],
)
def test_a_mask_is_needed_that_marks_a_part(root, edit, said):
    with pytest.raises(InputError, match=said):
        apply(LamaEditor(weights=str(root / "fixed.onnx"), grow=3), picture(40, 40), edit)


@pytest.mark.parametrize("values", [{"grow": -1}, {"side": 8}])
def test_values_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError):
        LamaEditor(**values)


# ------------------------------------------------------------------------------------------------------------- the weights


@pytest.mark.parametrize(
    "save, said",
    [
        (lambda file: save_lama(file, channels=1), "is no LaMa"),
        (lambda file: save_lama(file, 64, height=32), "not for a square"),
        (lambda file: file.write_bytes(b"\x00garbage"), "cannot be read as a network"),
        (lambda file: None, "There is no file"),
    ],
)
def test_other_files_are_refused(tmp_path, save, said):
    save(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match=said):
        apply(LamaEditor(weights=str(tmp_path / "net.onnx")), picture(40, 40), removal(40, 40, (9, 12, 9, 12))[0])


def test_the_published_file_is_found_in_the_cache_and_may_be_used(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    weights.fetching._snapshot.cache_clear()
    with keeping(Policy(offline=True, commercial_only=True)):
        with pytest.raises(WeightsError, match=r"--set editor\.weights="):
            LamaEditor().check()
        save_lama(tmp_path / "published" / "lama_fp32.onnx")
        keep(tmp_path / "hub", "Carve/LaMa-ONNX", tmp_path / "published")
        weights.fetching._snapshot.cache_clear()
        ledger = weights.Ledger()
        with keeping(Policy(offline=True, commercial_only=True), ledger):
            LamaEditor().check()
        LamaEditor(weights=str(tmp_path / "published")).check()
        with pytest.raises(LicenceError):
            LamaEditor(weights="owner/unheard-of").check()
    (used,) = ledger.to_list()
    assert (used["name"], used["licence"], list(used["sha256"])) == ("lama", "Apache-2.0", ["lama_fp32.onnx"])
    weights.fetching._snapshot.cache_clear()


def test_an_onnx_file_is_never_read_as_a_pickle(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="--allow-pickle"):
        weights.read_state(tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="cannot be read as a network"):
        apply(LamaEditor(weights=str(tmp_path / "net.onnx")), picture(40, 40), removal(40, 40, (9, 12, 9, 12))[0])
