"""EbSynth as a propagator: the merge against closed forms and scipy, the program's command line, its failures, resuming.

All of tests/contracts/test_propagator.py runs over it, too, among the slow tests.
"""

import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import skimage.data
import torch

import ebsynth_program
import flowpaint
from flowpaint import video
from flowpaint.colour import to_lab
from flowpaint.errors import ConfigError, WorkError
from flowpaint.parts.propagate import EbSynth, ebsynth
from flowpaint.parts.propagate.guides import edges, picture_of_places
from flowpaint.parts.propagate.merge import choose, merge, screened_poisson
from flowpaint.parts.propagate.program import Guide, find, synthesise
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, Flow, to_raw


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------------------------ merge


@pytest.mark.parametrize("height, width", [(5, 7), (1, 6), (8, 1)])
def test_the_poisson_equation_is_solved_as_scipy_solves_it(height, width):
    values, weights = noise(1, 3, height, width), (2.5, 0.5, 0.0)
    across, down = noise(1, 3, height, width, seed=1) - 0.5, noise(1, 3, height, width, seed=2) - 0.5
    found = screened_poisson(values.double(), across.double(), down.double(), torch.tensor(weights).double())
    steps = [scipy.sparse.diags([-1.0, 1.0], [0, 1], shape=(size - 1, size)) for size in (width, height)]
    differences = [scipy.sparse.kron(scipy.sparse.eye(height), steps[0]), scipy.sparse.kron(steps[1], scipy.sparse.eye(width))]
    for channel, weight in enumerate(weights):
        system = scipy.sparse.vstack([scipy.sparse.eye(height * width), *(weight * one for one in differences)]).tocsr()
        sides = values[0, channel], weight * across[0, channel, :, :-1], weight * down[0, channel, :-1]
        wanted = scipy.sparse.linalg.lsqr(
            system, np.concatenate([one.flatten().numpy() for one in sides]), atol=1e-12, btol=1e-12
        )
        np.testing.assert_allclose(found[0, channel].flatten().numpy(), wanted[0], atol=1e-6)


def test_the_error_decides_weighed_by_distance_in_time_and_once_behind_always_behind():
    before, after = torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([0.5, 1.0, 4.0, 4.0])
    kept = torch.tensor([False, False, False, True])
    assert choose(before, after, 0.5, kept).tolist() == [True, False, False, True]
    assert choose(before, after, 0.9, kept).tolist() == [True, True, True, True]
    assert choose(before, after, 0.1, kept).tolist() == [False, False, False, True]


@pytest.mark.parametrize("gradients", [True, False])
def test_two_equal_pictures_merge_to_themselves(gradients):
    picture = torch.from_numpy(skimage.data.coffee()[:64, :96].copy()).permute(2, 0, 1)[None].float() / 255
    chosen = noise(1, 1, 64, 96) > 0.5
    assert (merge(picture, picture, chosen, 0.3, gradients=gradients) - picture).abs().max() < 2e-3
    flat = torch.full((1, 3, 16, 16), 0.4)
    assert (merge(flat, flat, chosen[..., :16, :16], 0.3, gradients=gradients) - flat).abs().max() < 1e-3


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_mean_keeps_contrast_and_begins_and_ends_at_the_key_frames(share):
    before, after = 0.3 + 0.3 * noise(1, 3, 64, 64), 0.3 + 0.3 * noise(1, 3, 64, 64, seed=1)
    chosen = torch.full((1, 1, 64, 64), share > 0.5)
    found = merge(before, after, chosen, share, gradients=False)
    deviations = [to_lab(one).std(dim=(-2, -1)) for one in (found, after if share > 0.5 else before)]
    assert torch.allclose(*deviations, rtol=0.03)
    if share == 0.5:
        assert (to_lab((before + after) / 2).std(dim=(-2, -1)) < 0.8 * deviations[1]).all()  # what a plain mean does
    else:
        assert (found - (after if share else before)).abs().max() < 2e-3


def test_gradients_come_from_what_was_chosen():
    """Stripes on the left half of one picture, on the right half of the other: both are whole in the merged one."""
    grey, stripes = torch.full((1, 3, 32, 64), 0.5), 0.5 + 0.1 * (torch.arange(64) % 8 < 4).float().expand(1, 3, 32, 64)
    right = (torch.arange(64) >= 32).expand(1, 1, 32, 64)
    found = merge(torch.where(right, grey, stripes), torch.where(right, stripes, grey), right, 0.5, gradients=True)
    swing = to_lab(found)[0, 0].diff(dim=-1).abs()
    whole = to_lab(stripes)[0, 0].diff(dim=-1).abs()
    inner = [*range(3, 28), *range(36, 60)]
    assert (swing - whole)[:, inner].abs().max() < 0.35 * whole.max()
    assert swing[:, 31].max() < 0.35 * whole.max()  # where neither has an edge there is no seam


# ----------------------------------------------------------------------------------------------------------------- guides


def test_edges_are_laplacians_about_grey():
    spot = torch.zeros(1, 3, 5, 5)
    spot[..., 2, 2] = 0.1
    found = edges(spot)[0, 0]
    assert found[2].tolist() == pytest.approx([0.5, 0.6, 0.1, 0.6, 0.5], abs=1e-6)
    assert (edges(torch.full((1, 3, 4, 4), 0.7)) - 0.5).abs().max() < 1e-6


def test_places_are_colours():
    shift = torch.zeros(1, 2, 3, 5)
    shift[0, :, 1, 1] = torch.tensor([2.0, 1.0])
    found = picture_of_places(shift)
    assert found[0, :, 2, 4].tolist() == [1, 1, 0] and found[0, :, 0, 2].tolist() == [0.5, 0, 0]
    assert found[0, :, 1, 1].tolist() == [0.75, 1, 0]


# ------------------------------------------------------------------------------------------------------------ the program


@pytest.fixture
def program(tmp_path):
    return str(ebsynth_program.install(tmp_path))


@pytest.fixture
def script(tmp_path):
    """Makes a program of some lines of Python."""

    def make(text):
        path = tmp_path / "scripted"
        path.write_text(f"#!{sys.executable} -I\nimport sys, time, json\n{textwrap.dedent(text)}")
        path.chmod(0o755)
        return str(path)

    return make


def picture(height=16, width=20):
    return to_raw(noise(3, height, width))


def guide(weight=1.0):
    return Guide(picture(), picture(), weight)


def test_the_command_line_is_ebsynth_s(script, tmp_path):
    said = tmp_path / "said.json"
    asked = script(f"open({str(said)!r}, 'w').write(json.dumps(sys.argv[1:]))")
    part = EbSynth(program=asked, patch=7)
    with pytest.raises(WorkError, match="no picture"):
        synthesise(asked, picture(), (guide(6), guide(0.5)), part.options(), limit=60)
    words = json.loads(said.read_text())
    assert " ".join(Path(one).name for one in words) == (
        "-style style.png -guide source0.png target0.png -weight 6 -guide source1.png target1.png -weight 0.5 -output output.png "
        "-uniformity 3500 -patchsize 7 -searchvoteiters 12 -patchmatchiters 6"
    )
    assert not Path(words[1]).exists(), "nothing is left behind"


def test_pictures_reach_the_program_as_they_are(program):
    style, target = picture(), picture(24, 30)
    same = synthesise(program, style, [Guide(style, style, 1.0)], (), limit=60)
    assert np.array_equal(same, style)
    grey = Guide(style[..., 0].copy(), target[..., 0].copy(), 1.0)
    found = synthesise(program, style, [grey], (), limit=60)
    nearest = np.abs(style[..., 0].reshape(1, -1).astype(int) - target[..., 0].reshape(-1, 1)).argmin(axis=1)
    assert np.array_equal(found, style.reshape(-1, 3)[nearest].reshape(24, 30, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, limit, named",
    [
        ("print('error: no such thing'); sys.exit(3)", 60, ["exit code 3", "error: no such thing"]),
        ("print('all done')", 60, ["no picture", "all done"]),
        ("open(sys.argv[sys.argv.index('-output') + 1], 'w').write('no picture')", 60, ["no picture"]),
        ("import shutil; shutil.copy(sys.argv[2], sys.argv[-1])", 60, ["20x16", "30x24"]),
        ("time.sleep(60)", 0.5, ["0.5 s", "propagate.limit"]),
        ("import subprocess; subprocess.run(['sleep', '3'])", 0.5, ["0.5 s", "propagate.limit"]),
    ],
    ids=["fails", "writes nothing", "writes rubbish", "another size", "hangs", "its child hangs"],
)
def test_a_program_that_fails_is_told_of(script, text, limit, named):
    with pytest.raises(WorkError) as told:
        synthesise(script(text), picture(), [Guide(picture(), picture(24, 30), 1.0)], (), limit=limit)
    assert all(words in str(told.value) for words in named) and told.value.exit_code == 1


def test_a_program_is_found_by_path_or_by_name(program, tmp_path, monkeypatch):
    assert find(program) == program
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("ebsynth") == program
    (tmp_path / "ebsynth").chmod(0o644)
    for name, what in ((program, "not executable"), (str(tmp_path / "nowhere"), "not there"), ("", "not there")):
        with pytest.raises(ConfigError, match=what) as told:
            EbSynth(program=name)(Clip.from_array(noise(1, 3, 16, 16)), {0: noise(3, 16, 16)}, Edit(), Run())
        assert told.value.exit_code == 2


@pytest.mark.parametrize("values", [{"patch": 4}, {"patch": 1}, {"limit": 0.0}])
def test_values_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError):
        EbSynth(**values)


# ------------------------------------------------------------------------------------------------------------ propagation


@pytest.fixture
def drawn(monkeypatch):
    """What the program was asked for: `[(style, guides), ...]`. It is done in this process, which takes no start."""
    asked = []

    def best_match(program, style, guides, options, *, limit):
        asked.append((style, guides))
        whole = [(rgb(one.source), rgb(one.target), one.weight) for one in guides]
        return ebsynth_program.best_match(style, whole)

    def rgb(picture):
        return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)

    monkeypatch.setattr(ebsynth, "synthesise", best_match)
    monkeypatch.setattr(ebsynth, "find", lambda program: program)
    return asked


class Known:
    """The true flow between frames of a clip, which it knows by their content."""

    def __init__(self, clip, flow):
        self.frames, self.flow = clip.frames, flow

    def __call__(self, a, b):
        index = [(self.frames - one).abs().mean(dim=(1, 2, 3)).argmin().item() for one in (a, b)]
        return self.flow(*index)


def graded(picture):
    return picture.flip(-3) * 0.8 + 0.1


def cropped(clip, num_frames, height, width):
    """A small part of a clip: the stand-in compares every pixel with every other."""
    return Clip.from_array(clip.frames[:num_frames, :, 8 : 8 + height, 4 : 4 + width])


def psnr(a, b):
    return -10 * (a - b).square().mean().log10().item()


def test_one_key_frame_or_two_carry_a_grade_along_a_pan(program, textured_pan):
    clip = cropped(textured_pan.clip, 5, 36, 48)
    edited = EbSynth(program=program)(clip, {1: graded(clip.frame(1)), 4: graded(clip.frame(4))}, Edit(), Run())
    for index in (0, 2, 3):
        inner = (slice(None), slice(6, -6), slice(6, -6))
        assert psnr(edited.frame(index)[inner], graded(clip.frame(index))[inner]) > 32


@pytest.mark.slow
def test_guides_follow_the_flow_in_both_directions(drawn, textured_pan):
    """The content moves (-2, 1) px a frame: n frames on, a pixel is (2, -1) n pixels away from its place in the key frame."""
    clip, keys = textured_pan.clip[:5], {1: graded(textured_pan.clip.frame(1)), 4: graded(textured_pan.clip.frame(4))}
    edited = EbSynth(flow=Known(clip, textured_pan.flow))(clip, keys, Edit(), Run())
    edited.raw(0), edited.raw(2)
    assert len(drawn) == 1 + 1 + 2
    y, x = np.mgrid[12:52, 20:76].astype(float)
    for (style, guides), index, key in zip(drawn, (0, 2, 3, 2), (1, 1, 4, 4), strict=True):
        colour, edge, temporal, place = guides
        assert [one.weight for one in guides] == [6.0, 0.5, 0.5, 2.0]
        assert np.array_equal(colour.source, clip.raw(key)) and np.array_equal(colour.target, clip.raw(index))
        assert edge.source.shape == edge.target.shape == (64, 96)
        assert np.array_equal(style, to_raw(keys[key])) and np.array_equal(temporal.source, style)
        # The neighbour's picture, moved here, shows what this frame shows.
        inner = slice(12, 52), slice(20, 76)
        assert np.abs(temporal.target[inner].astype(float) - to_raw(graded(clip.frame(index)))[inner]).mean() < 4
        n = index - key
        wanted = np.stack([(x + 2 * n) / 95, (y - n) / 63, 0 * x], axis=-1) * 255
        assert np.abs(place.target[inner] - wanted).max() < 0.6


@pytest.mark.parametrize("gradients", [True, False])
def test_what_one_key_frame_hides_comes_from_the_other(drawn, moving_square, monkeypatch, gradients):
    """The ground under the square: hidden in the first key frame it is taken from the last, and the other way round."""
    chosen, clip = {}, cropped(moving_square.clip, 9, 56, 68)

    def watched(before, after, where, share, **more):
        chosen[share] = where
        return merge(before, after, where, share, **more)

    def flow(a, b):
        found = moving_square.flow(a, b)
        vectors, visibility = (one[..., 8:64, 4:72].contiguous() for one in (found.vectors, found.visibility))
        return Flow(vectors=vectors, visibility=visibility)

    monkeypatch.setattr(ebsynth, "merge", watched)
    keys = {0: graded(clip.frame(0)), 8: graded(clip.frame(8))}
    edited = EbSynth(flow=Known(clip, flow), gradients=gradients)(clip, keys, Edit(), Run())
    mask = [moving_square.mask(index)[0, 0, 8:64, 4:72].bool() for index in (0, 4, 8)]
    edited.raw(4)
    first, last = erode(mask[0] & ~mask[1]), erode(mask[2] & ~mask[1])
    assert first.sum() > 40 < last.sum()
    assert chosen[0.5][0, 0][first].float().mean() > 0.9 and chosen[0.5][0, 0][last].float().mean() < 0.1
    assert psnr(edited.frame(4), graded(clip.frame(4))) > 28


def erode(mask):
    return -torch.nn.functional.max_pool2d(-mask[None].float(), 5, stride=1, padding=2)[0] > 0.5


def test_a_killed_run_draws_nothing_twice_and_any_order_shows_the_same(drawn, textured_pan):
    clip, store = cropped(textured_pan.clip, 7, 24, 32), MemoryStore()
    keys = {0: graded(clip.frame(0)), 5: graded(clip.frame(5))}
    first = EbSynth()(clip, keys, Edit(), Run(chunk=2, store=store))
    whole = [first.raw(index) for index in range(7)]
    assert len(drawn) == 4 + 4 + 1  # forward, backward, after the last
    again = EbSynth()(clip, keys, Edit(), Run(chunk=2, store=store))
    assert all(np.array_equal(again.raw(index), whole[index]) for index in (4, 5, 6))
    assert len(drawn) == 9 + 1 + 1  # frame 4 once more from its checkpoint, frame 6; nothing backward
    fresh = EbSynth()(clip, keys, Edit(), Run(chunk=2))
    assert all(np.array_equal(fresh.raw(index), whole[index]) for index in (4, 2, 3))


def test_a_run_killed_on_its_way_back_goes_on_there(drawn, textured_pan):
    clip, store = cropped(textured_pan.clip, 7, 24, 32), MemoryStore()

    def stop(stage, done, total):
        if (stage, done, total) == ("backward", 4, 6):
            raise KeyboardInterrupt

    keys = {6: graded(clip.frame(6))}
    whole = EbSynth()(clip, keys, Edit(), Run())
    wanted = [whole.raw(index) for index in range(7)]
    drawn.clear()
    with pytest.raises(KeyboardInterrupt):
        EbSynth()(clip, keys, Edit(), Run(store=store, progress=stop)).raw(0)
    again = EbSynth()(clip, keys, Edit(), Run(store=store))
    assert all(np.array_equal(again.raw(index), wanted[index]) for index in range(7))
    assert len(drawn) == 4 + 2


def test_finished_frames_leave_the_store(drawn, textured_pan):
    clip, store = cropped(textured_pan.clip, 8, 16, 16), MemoryStore()
    edited = EbSynth()(clip, {7: graded(clip.frame(7))}, Edit(), Run(chunk=1, store=store))
    for index in range(8):
        edited.raw(index)
    left = sorted(key for key in store._kept if "backward" in key)
    assert left == ["ebsynth/0/backward/5", "ebsynth/0/backward/6"], "those of three chunks, which a killed run may ask for"


# -------------------------------------------------------------------------------------------------------- the command line


def test_on_the_command_line(call, tmp_path, monkeypatch, still, program, script):
    monkeypatch.chdir(tmp_path)
    clip = cropped(still, 3, 32, 48)
    video.write(clip, "in.mp4")
    video.write_picture("key.png", to_raw(graded(clip.frame(0))))
    common = ("propagate", "in.mp4", "--keyframe", "0=key.png", "--set", "propagate=ebsynth", "-o", "out.mp4")
    code, _, err = call(*common, "--set", "propagate.program=nowhere/ebsynth")
    assert code == 2 and "nowhere/ebsynth" in err and "--set propagate.program" in err
    monkeypatch.setattr(video, "shots", lambda *_, **__: pytest.fail("what is missing is said before shots are looked for"))
    assert call(*common, "--set", "propagate.program=nowhere/ebsynth")[0] == 2
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*common, "--set", f"propagate.program={script('sys.exit(7)')}")
    assert code == 1 and "exit code 7" in err and "Traceback" not in err, err
    code, _, err = call(*common, "--set", f"propagate.program={program}", "--fresh")
    assert code == 0 and len(video.read("out.mp4")) == 3, err


def test_a_method_says_at_once_what_its_parts_lack(moving_square):
    clip = moving_square.clip
    with pytest.raises(ConfigError, match="nowhere"):
        flowpaint.edit(clip, "sepia", settings=["propagate=ebsynth", "propagate.program=nowhere"])
