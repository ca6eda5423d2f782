"""What every segmenter must do, whoever wrote it."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from flowpaint import seams
from flowpaint.errors import InputError, ShapeError
from tiny_vision import save_sam2


def bright_square(count=6, height=72, width=96, side=22):
    """Frames [T, 3, H, W] of a bright square that moves (4, 2) px a frame over dark dim noise, and its masks [T, 1, H, W]."""
    ground = 0.2 + 0.1 * torch.rand(3, height, width, generator=torch.Generator().manual_seed(4))
    frames, masks = ground.repeat(count, 1, 1, 1), torch.zeros(count, 1, height, width)
    for index in range(count):
        place = (..., slice(14 + 2 * index, 14 + 2 * index + side), slice(20 + 4 * index, 20 + 4 * index + side))
        masks[index][place] = 1
        frames[index][place] = 0.9
    return frames, masks


def iou(found, truth):
    found, truth = found > 0.5, truth > 0.5
    return ((found & truth).sum() / (found | truth).sum()).item()


@pytest.fixture(scope="module", params=seams.names("segmenter"))
def segmenter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sam2":
        return seams.build("segmenter", "sam2", weights=str(save_sam2(folder)))
    if request.param == "mask":
        for index, mask in enumerate(bright_square()[1]):
            Image.fromarray((255 * mask[0].numpy()).astype(np.uint8)).save(folder / f"{index:03}.png")
        return seams.build("segmenter", "mask", path=str(folder))
    if request.param == "grabcut":
        return seams.build("segmenter", "grabcut", box=(16.0, 10.0, 48.0, 42.0))
    return seams.build("segmenter", request.param)


def test_finds_a_bright_moving_square(segmenter):
    if seams.to_dict(segmenter)["part"] == "sam2":
        pytest.skip("the tiny network is random")
    frames, truth = bright_square()
    masks = segmenter(frames)
    assert [iou(one, other) > 0.8 for one, other in zip(masks, truth, strict=True)] == [True] * 6


def test_gives_one_mask_a_frame(segmenter):
    frames, truth = bright_square()
    before = frames.clone()
    masks = segmenter(frames)
    assert masks.shape == truth.shape and masks.dtype == torch.float32 and not masks.requires_grad
    assert masks.min() >= 0 and masks.max() <= 1 and masks.isfinite().all()
    assert torch.equal(frames, before)


@pytest.mark.parametrize("count, height, width", [(1, 27, 36), (2, 99, 132), (3, 37, 49)])
def test_keeps_any_size(segmenter, count, height, width):
    if seams.to_dict(segmenter)["part"] == "grabcut":
        pytest.skip("its box is in pixels of one size")
    frames = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(5))
    masks = segmenter(frames)
    assert masks.shape == (count, 1, height, width) and masks.isfinite().all() and masks.min() >= 0 and masks.max() <= 1


@pytest.mark.slow
def test_the_same_twice(segmenter):
    frames, _ = bright_square()
    assert torch.equal(segmenter(frames), segmenter(frames))


@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_a_plain_clip_has_finite_masks(segmenter, shade):
    if seams.to_dict(segmenter)["part"] == "grabcut":
        with pytest.raises(InputError, match="Give a mask"):
            segmenter(torch.full((3, 3, 72, 96), shade))
        return
    masks = segmenter(torch.full((3, 3, 72, 96), shade))
    assert masks.isfinite().all()
    if seams.to_dict(segmenter)["part"] != "mask":
        assert masks.max() == 0, "there is nothing to find"


def test_takes_a_hint(segmenter):
    frames, truth = bright_square()
    for hint in (truth, truth[:1]):
        masks = segmenter(frames, hint)
        assert masks.shape == truth.shape and masks.isfinite().all()


def test_pictures_of_another_shape_are_refused(segmenter):
    with pytest.raises(ShapeError):
        segmenter(torch.zeros(2, 1, 32, 32))


def test_is_a_recipe(segmenter):
    assert isinstance(segmenter, seams.Segmenter)
    assert seams.from_dict(seams.to_dict(segmenter)) == segmenter
    assert pickle.loads(pickle.dumps(segmenter)) == segmenter
    assert len(pickle.dumps(segmenter)) < 10_000
