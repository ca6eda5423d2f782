"""Masks against known ones."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from conftest import smooth_texture
from flowpaint.errors import ConfigError, InputError, VideoError, WeightsError
from flowpaint.parts.segment import MaskSegmenter, MotionSegmenter, Sam2Segmenter
from tiny_vision import save_sam2


def iou(found, truth):
    found, truth = found > 0.5, truth > 0.5
    return ((found & truth).sum() / (found | truth).sum()).item()


# --------------------------------------------------------------------------------------------------------------- motion


def test_what_moves_is_found_on_a_like_ground(moving_square):
    clip = moving_square.clip[0:8]
    masks = MotionSegmenter()(clip.frames)
    assert np.mean([iou(mask, moving_square.mask(index)[0]) for index, mask in enumerate(masks)]) > 0.8


def panned(own, count=6, radius=28):
    """A textured disc moves `own` px a frame over a ground that pans (3, 0): frames and masks."""
    wide, thing = smooth_texture(120, 260, seed=8, waves=14), smooth_texture(120, 260, seed=9, waves=14)
    y, x = torch.meshgrid(torch.arange(120), torch.arange(160), indexing="ij")
    frames, masks = [], []
    for index in range(count):
        mask = ((x - 60 - own * index).square() + (y - 60).square() < radius**2).float()[None]
        moved = thing.roll(own * index, dims=-1)[..., :160]
        frames.append(mask * moved + (1 - mask) * wide[..., 40 - 3 * index : 200 - 3 * index])
        masks.append(mask)
    return torch.stack(frames), torch.stack(masks)


@pytest.mark.slow
def test_the_motion_of_the_camera_is_not_the_objects():
    frames, truth = panned(own=0)  # the camera follows it: it rests in the picture
    found = MotionSegmenter()(frames)
    assert np.mean([iou(one, other) for one, other in zip(found, truth, strict=True)]) > 0.7
    frames, truth = panned(own=7)
    found = MotionSegmenter()(frames)
    assert np.mean([iou(one, other) for one, other in zip(found, truth, strict=True)]) > 0.7


@pytest.mark.slow
def test_what_fills_most_of_the_frame_is_not_the_ground():
    frames, truth = panned(own=0, count=4, radius=58)
    truth[..., 60:, 20:100] = 1  # a body below the head: together more than half of the frame
    frames = torch.where(truth.bool(), smooth_texture(120, 160, seed=9, waves=14), frames)
    assert truth.mean() > 0.5
    assert iou(MotionSegmenter()(frames), truth) > 0.75


def test_in_a_single_frame_what_stands_out_is_found():
    frame = 0.4 * smooth_texture(90, 120, seed=10)[None] * torch.tensor([0.2, 0.5, 1.0])[None, :, None, None]
    truth = torch.zeros(1, 1, 90, 120)
    truth[..., 25:65, 40:85] = 1
    frame = torch.where(truth.bool(), torch.tensor([0.9, 0.6, 0.1])[None, :, None, None], frame)
    assert iou(MotionSegmenter()(frame), truth) > 0.9
    rest = MotionSegmenter()(frame.repeat(3, 1, 1, 1))  # nor need it move
    assert min(iou(one, truth[0]) for one in rest) > 0.9


def test_a_hint_chooses():
    frame = torch.full((2, 3, 80, 160), 0.2)
    left, right = torch.zeros(2, 1, 80, 160), torch.zeros(2, 1, 80, 160)
    left[..., 20:60, 20:60], right[..., 20:60, 100:140] = 1, 1
    frame = frame + 0.6 * (left + right)
    both = MotionSegmenter()(frame)
    assert iou(both, left + right) > 0.9
    for one in (left, right):
        assert iou(MotionSegmenter()(frame, one), one) > 0.9
        assert iou(MotionSegmenter()(frame, one[:1]), one) > 0.9


def test_noise_is_no_object():
    noise = 0.5 + 0.01 * torch.rand(2, 3, 60, 80, generator=torch.Generator().manual_seed(8))
    assert MotionSegmenter()(noise).max() == 0


def test_masks_of_a_still_clip_are_still(still):
    frames = still[0:4].frames
    noise = 0.01 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(6))
    masks = MotionSegmenter()((frames + noise).clamp(0, 1)) > 0.5
    assert (masks[1:] != masks[:-1]).float().mean() < 0.01


def test_large_frames_are_worked_on_small():
    frames, truth = panned(own=7, count=3)
    large = torch.nn.functional.interpolate(frames, scale_factor=3, mode="bilinear")
    masks = MotionSegmenter(side=160)(large)
    assert masks.shape == (3, 1, 360, 480)
    assert iou(masks, truth.repeat_interleave(3, -1).repeat_interleave(3, -2)) > 0.65


@pytest.mark.parametrize("values", [{"side": 8}, {"centre": -0.1}, {"centre": 1.1}])
def test_motion_refuses_what_does_not_fit(values):
    with pytest.raises(ConfigError, match="Give"):
        MotionSegmenter(**values)


# ----------------------------------------------------------------------------------------------------------------- file


@pytest.fixture
def truth():
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 255
    return mask


@pytest.mark.parametrize("form", ["grey", "rgb", "rgba", "deep", "bit", "palette"])
def test_pictures_of_every_kind(tmp_path, truth, form):
    path = tmp_path / "mask.png"
    picture = Image.fromarray(truth)
    if form == "deep":
        picture = Image.fromarray(truth.astype(np.uint16) * 257)
    elif form == "bit":
        picture = picture.convert("1")
    elif form == "palette":  # as DAVIS: object 1 is dark red
        picture = Image.fromarray(truth // 255, mode=None).convert("P")
        picture.putpalette([0, 0, 0, 128, 0, 0])
    elif form != "grey":
        picture = picture.convert(form.upper())
    picture.save(path)
    masks = MaskSegmenter(path=str(path))(torch.zeros(3, 3, 40, 60))
    wanted = torch.from_numpy(truth / 255).float().expand(3, 1, -1, -1)
    assert torch.allclose(masks, wanted, atol=1e-3)


def test_one_mask_a_frame_from_a_folder(tmp_path, truth):
    for index in range(4):
        Image.fromarray(np.roll(truth, index, axis=1)).save(tmp_path / f"{index:02}.png")
    (tmp_path / "Thumbs.db").write_bytes(b"no mask")
    masks = MaskSegmenter(path=str(tmp_path), first=1)(torch.zeros(3, 3, 40, 60))
    for index, mask in enumerate(masks):
        assert np.array_equal(mask[0].numpy() * 255, np.roll(truth, index + 1, axis=1))
    with pytest.raises(InputError, match="4 masks"):
        MaskSegmenter(path=str(tmp_path), first=2)(torch.zeros(3, 3, 40, 60))


def test_one_mask_a_frame_from_a_video(tmp_path, truth):
    path = str(tmp_path / "mask.avi")
    film = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (60, 40))
    for index in range(4):
        film.write(np.repeat(np.roll(truth, 4 * index, axis=1)[..., None], 3, axis=2))
    film.release()
    masks = MaskSegmenter(path=path, first=1)(torch.zeros(3, 3, 40, 60))
    for index, mask in enumerate(masks):
        assert np.abs(mask[0].numpy() - np.roll(truth, 4 * index + 4, axis=1) / 255).mean() < 0.03
    with pytest.raises(InputError, match="4 masks"):
        MaskSegmenter(path=path)(torch.zeros(5, 3, 40, 60))


def test_another_size_of_the_same_shape_is_resized(tmp_path, truth):
    Image.fromarray(truth).save(tmp_path / "mask.png")
    part = MaskSegmenter(path=str(tmp_path / "mask.png"))
    assert torch.allclose(part(torch.zeros(1, 3, 20, 30))[0, 0], torch.from_numpy(truth[::2, ::2] / 255).float())
    with pytest.raises(InputError, match="same shape"):
        part(torch.zeros(1, 3, 40, 40))


def test_what_is_no_mask_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    (tmp_path / "empty").mkdir()
    for name in ("a.png", "missing.png", "missing.mp4", "a.mp4", "empty"):
        with pytest.raises(VideoError):
            MaskSegmenter(path=str(tmp_path / name))(torch.zeros(1, 3, 20, 20))
    with pytest.raises(ConfigError):
        MaskSegmenter(path="mask.png", first=-1)
    with pytest.raises(ConfigError, match="no file"):
        MaskSegmenter()(torch.zeros(1, 3, 20, 20))


# ----------------------------------------------------------------------------------------------------------------- SAM 2


@pytest.fixture(scope="module")
def sam2_folder(tmp_path_factory):
    return save_sam2(tmp_path_factory.mktemp("sam2"))


def asked(folder, frames, **prompt):
    """What the network says of `frames` to a prompt in its own pixels: logits [N, 1, H, W]."""
    from transformers import Sam2Model

    network = Sam2Model.from_pretrained(folder).eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        said = network((frames - mean[:, None, None]) / deviation[:, None, None], multimask_output=False, **prompt)
    return torch.nn.functional.interpolate(said.pred_masks[:, 0], size=frames.shape[-2:], mode="bilinear")


def test_sam2_is_asked_for_the_box_or_the_inmost_point(sam2_folder):
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))  # the network's own size
    hint = torch.zeros(2, 1, 64, 64)
    hint[0, :, 10:30, 8:49] = 1
    hint[1, :, 33:44, 20:31] = 1
    boxes = torch.tensor([[[8, 10, 49, 30]], [[20, 33, 31, 44]]]).float() - 0.5  # in numbers of pixels, whose middles count
    logits = asked(sam2_folder, frames, input_boxes=boxes)
    assert 0.02 < (logits > 0).float().mean() < 0.98, "the random network says something"
    found = Sam2Segmenter(weights=str(sam2_folder), batch=1)(frames, hint)
    assert torch.equal(found, (logits > 0).float())
    points = torch.tensor([[[[25, 38]]]]).float()
    logits = asked(sam2_folder, frames[1:], input_points=points)
    found = Sam2Segmenter(weights=str(sam2_folder), prompt="point")(frames[1:], hint[1:])
    assert (found != (logits > 0).float()).float().mean() < 0.01


def test_boxes_follow_the_shape_of_the_frame(sam2_folder, monkeypatch):
    from transformers import Sam2Model

    told, forward = [], Sam2Model.forward

    def watched(self, **given):
        told.append(given)
        return forward(self, **given)

    monkeypatch.setattr(Sam2Model, "forward", watched)
    frames, hint = torch.rand(1, 3, 32, 128), torch.zeros(1, 1, 32, 128)
    hint[..., 8:16, 64:128] = 1
    Sam2Segmenter(weights=str(sam2_folder))(frames, hint)
    assert told[0]["pixel_values"].shape == (1, 3, 64, 64)
    assert told[0]["input_boxes"].tolist() == [[[31.5, 15.5, 63.5, 31.5]]]
    Sam2Segmenter(weights=str(sam2_folder), prompt="point")(frames, hint)
    x, y = told[1]["input_points"][0, 0, 0].tolist()
    assert 31.5 < x < 63.5 and 22 < y < 25


def test_frames_without_an_object_are_not_asked(sam2_folder):
    frames, hint = torch.rand(3, 3, 40, 50), torch.zeros(3, 1, 40, 50)
    hint[1, :, 10:30, 10:40] = 1
    masks = Sam2Segmenter(weights=str(sam2_folder))(frames, hint)
    assert masks[[0, 2]].max() == 0
    assert torch.equal(masks[1:2], Sam2Segmenter(weights=str(sam2_folder))(frames[1:2], hint[1:2]))


def test_the_motion_segmenter_tells_sam2_where_to_look(sam2_folder, moving_square):
    frames = moving_square.clip[0:3].frames
    part = Sam2Segmenter(weights=str(sam2_folder))
    assert torch.equal(part(frames), part(frames, MotionSegmenter()(frames)))


def test_missing_and_damaged_weights_are_told(sam2_folder, tmp_path):
    for name in ("nobody/has-this-network", str(tmp_path)):
        with pytest.raises(WeightsError, match=r"--set saliency\.weights"):
            Sam2Segmenter(weights=name)(torch.zeros(1, 3, 20, 20))
    from safetensors.torch import load_file, save_file

    state = load_file(sam2_folder / "model.safetensors")
    (tmp_path / "config.json").write_text((sam2_folder / "config.json").read_text())
    state.pop(next(name for name in state if "mask_decoder" in name))
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks"):
        Sam2Segmenter(weights=str(tmp_path))(torch.zeros(1, 3, 20, 20))
    with pytest.raises(ConfigError):
        Sam2Segmenter(batch=0)
