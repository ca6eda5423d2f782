"""What every feature extractor must do, whoever wrote it."""

import dataclasses
import pickle

import pytest
import torch

from flowpaint import seams
from flowpaint.networks.vgg import AlexNet, Vgg16
from flowpaint.weights import Policy, keeping
from tiny_networks import Means, save_clip, save_script, save_stack


@pytest.fixture(autouse=True)
def pickles():
    """PyTorch's files are what these networks are published as."""
    with keeping(Policy(allow_pickle=True)):
        yield


FILES = {
    "clip": lambda folder: save_clip(folder / "clip"),
    "vgg16": lambda folder: save_stack(Vgg16, folder / "vgg16.pth"),
    "alexnet": lambda folder: save_stack(AlexNet, folder / "alexnet.pth"),
    "inception": lambda folder: save_script(Means(width=2048, squash=False), folder / "inception.pt"),
    "i3d": lambda folder: save_script(Means(width=400, squash=False), folder / "i3d.pt"),
    "c3d": lambda folder: save_script(Means(width=101, squash=False), folder / "c3d.pt"),
}
CLIPS = {"i3d", "c3d"}


@pytest.fixture(scope="module", params=seams.names("extractor"))
def extractor(request, tmp_path_factory):
    file = FILES[request.param](tmp_path_factory.mktemp("weights"))
    return seams.build("extractor", request.param, weights=str(file))


@pytest.fixture
def pictures(extractor):
    kind = seams.to_dict(extractor)["part"]
    shape = (3, 16, 3, 40, 56) if kind in CLIPS else (5, 3, 40, 56)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_gives_a_row_for_each(extractor, pictures):
    rows = extractor(pictures)
    assert rows.shape[0] == len(pictures) and rows.ndim == 2 and rows.dtype == torch.float32
    assert rows.isfinite().all() and not rows.requires_grad
    assert rows.std(dim=0).max() > 0, "all pictures look the same"


def test_the_batch_changes_nothing(extractor, pictures):
    whole = extractor(pictures)
    split = dataclasses.replace(extractor, batch=2)(pictures)
    assert torch.allclose(whole, split, atol=1e-4 * whole.abs().max().item())
    alone = torch.cat([extractor(one[None]) for one in pictures])
    assert torch.allclose(whole, alone, atol=1e-4 * whole.abs().max().item())


def test_the_same_twice_and_nothing_is_changed(extractor, pictures):
    before = pictures.clone()
    assert torch.equal(extractor(pictures), extractor(pictures)) and torch.equal(pictures, before)


def test_rows_can_be_used_where_gradients_flow(extractor, pictures):
    scale = torch.ones((), requires_grad=True)
    (extractor(pictures) * scale).sum().backward()
    assert scale.grad is not None


def test_what_was_fitted_once_fits(extractor, pictures):
    if not hasattr(extractor, "fit"):
        pytest.skip("sees pictures at their own size")
    flat = pictures.flatten(0, -4)
    once = extractor.fit(flat)
    assert torch.equal(extractor.fit(once), once)
    back = once if pictures.ndim == 4 else once.unflatten(0, pictures.shape[:2])
    assert torch.equal(extractor.rows(back), extractor(pictures))


def test_is_a_recipe(extractor):
    assert seams.from_dict(seams.to_dict(extractor)) == extractor
    assert len(pickle.dumps(extractor)) < 10_000
    assert isinstance(extractor, seams.FeatureExtractor)
