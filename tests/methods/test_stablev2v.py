"""StableV2V: a disc that moves becomes a bar, on scenes where every frame of the result is known."""

from dataclasses import dataclass, field

import pytest
import torch

from flowpaint import seams
from flowpaint.errors import ConfigError, InputError, WorkError
from flowpaint.methods.stablev2v import StableV2V
from flowpaint.seams import MemoryStore, Run
from flowpaint.types import Clip, Edit, from_raw, to_raw
from flowpaint.video import read_picture
from flowpaint.warp import pixel_grid
from moving_discs import Discs, texture

SIZE = (96, 128)
VELOCITY = (2.0, 0.5)
COUNT = 7


def bar(k=0, pan=(0.0, 0.0)):
    """The new object's true mask in frame k, [1, H, W]: wider than the disc, less high."""
    x, y = pixel_grid(*SIZE)[0]
    cx, cy = 40 + k * VELOCITY[0], 44 + k * VELOCITY[1]
    return (((x - cx).abs() <= 22) & ((y - cy).abs() <= 9)).float()[None]


def painted(discs, k):
    """Frame k as it is after the edit: the bar, textured, over the ground that the disc hid."""
    ground = texture(pixel_grid(*SIZE) - (k * discs.pan)[None, :, None, None], 1)
    thing = 0.3 * texture(pixel_grid(*SIZE) - (k * discs.velocity)[None, :, None, None], 7)
    thing = thing + torch.tensor([0.65, 0.35, 0.0])[:, None, None]
    return torch.lerp(ground, thing, bar(k)).clamp(0, 1)


@pytest.fixture(scope="module")
def discs():
    return Discs(count=COUNT, size=SIZE, velocity=VELOCITY)


@pytest.fixture(scope="module")
def clip(discs):
    return Clip.from_array(discs.frames)


@pytest.fixture(scope="module")
def marked(discs):
    return Clip.from_array(discs.masks.expand(-1, 3, -1, -1))


def wish(discs, marked, **more):
    return Edit(keyframes={0: painted(discs, 0)}, objects=(marked,), **more)


def shown(method, clip, edit, **run):
    return torch.stack(list(method(clip, edit, Run(**run))))


def iou(a, b):
    return float(torch.minimum(a, b).sum() / torch.maximum(a, b).sum())


class Recording:
    """An image-to-video part that paints noise over the coarse picture, and notes what it is told."""

    def __init__(self, window=3, uses_depth=True):
        self.window, self.uses_depth, self.told, self.seeds = window, uses_depth, [], []

    def __call__(self, told, edit, run):
        self.told.append(told)
        noise = torch.rand(told.source.shape, generator=run.generator(told.frames[0]))
        made = (0.5 * told.background + 0.5 * noise).clamp(0, 1)
        return torch.cat([told.first[None], made[1:]])


@dataclass
class Painter:
    """An editor that paints the bar, shifted by what its generator draws; it notes where it was told to paint."""

    discs: Discs
    knows: bool = False
    told: list = field(default_factory=list)

    def __call__(self, image, edit, generator):
        self.told.append(edit)
        shift = int(torch.randint(0, 9, (), generator=generator))
        return torch.roll(painted(self.discs, 0), shift, dims=-1)


# ------------------------------------------------------------------------------------------------------------- the result


def test_every_frame_is_what_it_would_be(discs, clip, marked):
    made = shown(StableV2V(), clip, wish(discs, marked))
    for k in range(COUNT):
        truth = painted(discs, k)
        inner = bar(k)
        assert ((made[k] - truth).abs().mean(dim=0) * inner).sum() / inner.sum() < 0.03, k
        outside = 1 - torch.maximum(discs.masks[k], bar(k))
        assert ((made[k] - clip.frame(k)).abs().mean(dim=0) * outside).sum() / outside.sum() < 0.01


def test_what_the_old_object_hid_comes_from_other_frames(discs, marked):
    fast = Discs(count=COUNT, size=SIZE, velocity=(7.0, 0.0), radius=10.0, start=(30.0, 44.0))
    source = Clip.from_array(fast.frames)
    objects = (Clip.from_array(fast.masks.expand(-1, 3, -1, -1)),)
    made = shown(StableV2V(), source, Edit(objects=objects, remove=True))
    ground = texture(pixel_grid(*SIZE), 1).clamp(0, 1)
    assert (made - ground).abs().mean() < 0.01
    for k in (0, 3, 6):
        assert ((made[k] - ground).abs().mean(dim=0) * fast.masks[k]).sum() / fast.masks[k].sum() < 0.05


def test_the_edited_frame_may_be_any_and_others_are_made_both_ways(discs, clip, marked):
    edit = Edit(keyframes={3: painted(discs, 3)}, objects=(marked,))
    made = shown(StableV2V(), clip, edit)
    for k in (0, 3, 6):
        assert ((made[k] - painted(discs, k)).abs().mean(dim=0) * bar(k)).sum() / bar(k).sum() < 0.03, k


@pytest.mark.slow
def test_one_mask_is_carried_to_the_other_frames(discs, clip, marked):
    whole, carried = (shown(StableV2V(), clip, wish(discs, one)) for one in (marked, marked[0:1]))
    assert (whole - carried).abs().mean() < 0.02
    assert ((carried[-1] - painted(discs, 6)).abs().mean(dim=0) * bar(6)).sum() / bar(6).sum() < 0.05


@pytest.mark.slow
def test_a_known_shape_is_taken(discs, clip, marked):
    half = bar() * (pixel_grid(*SIZE)[:, 0] < 40)
    made = shown(StableV2V(), clip, wish(discs, marked, new_object=half))
    right = bar(6) * (pixel_grid(*SIZE)[:, 0] > 56)
    assert ((made[6] - painted(discs, 6)).abs().mean(dim=0) * right).sum() / right.sum() > 0.1  # it was cut off


@pytest.mark.slow
def test_an_edit_without_an_object_is_carried_whole(discs, clip):
    edit = Edit(keyframes={0: 1 - clip.frame(0)})
    plain = seams.build("method", "analogy")
    assert torch.equal(shown(StableV2V(), clip, edit), shown(plain, clip, edit))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(97, 131), (64, 64)])
def test_other_sizes_and_a_clip_of_one_frame(size):
    odd = Discs(count=2, size=size, velocity=(1.0, 0.0), radius=9.0, start=(30.0, 30.0))
    marked = Clip.from_array(odd.masks.expand(-1, 3, -1, -1))
    edited = torch.where(odd.masks[0] > 0.5, torch.tensor([1.0, 0.5, 0.0])[:, None, None], odd.frames[0])
    clip = Clip.from_array(odd.frames)
    assert shown(StableV2V(), clip, Edit(keyframes={0: edited}, objects=(marked,))).shape == (2, 3, *size)
    one = shown(StableV2V(), clip[0:1], Edit(keyframes={0: edited}, objects=(marked[0:1],)))
    assert one.shape == (1, 3, *size) and one.isfinite().all()


@pytest.mark.slow
def test_an_object_that_leaves_takes_the_new_one_with_it():
    away = Discs(count=10, size=SIZE, velocity=(12.0, 0.0), radius=9.0, start=(40.0, 44.0))
    edited = torch.where(away.masks[0] > 0.5, torch.tensor([1.0, 0.5, 0.0])[:, None, None], away.frames[0])
    clip, marked = Clip.from_array(away.frames), Clip.from_array(away.masks.expand(-1, 3, -1, -1))
    made = shown(StableV2V(), clip, Edit(keyframes={0: edited}, objects=(marked,)))
    assert made.isfinite().all()
    assert (made[-1] - away.frames[-1]).abs().mean() < 0.01


# ------------------------------------------------------------------------------------------------------------- with a part


def test_chunks_are_chained_and_told_of_shape_place_and_depth(discs, clip, marked):
    part = Recording()
    made = shown(StableV2V(generate=part, composite=False, match=False), clip, wish(discs, marked))
    assert [told.frames for told in part.told] == [(0, 1, 2), (2, 3, 4), (4, 5, 6)]
    for told in part.told:
        assert (told.first - made[told.frames[0]]).abs().max() < 1 / 255
        for row, k in enumerate(told.frames):
            assert iou((told.mask[row] > 0.5).float(), bar(k)) > 0.85
            inner, behind = bar(k) > 0.5, (discs.masks[k] > 0.5) & (bar(k) < 0.5)
            assert told.depth[row][inner].mean() > told.depth[row][behind].mean() + 0.05
            ground = told.background[row][:, discs.masks[k][0] > 0.5]
            assert (ground - discs.frames[k][:, discs.masks[k][0] > 0.5]).abs().mean() > 0.02
            assert (ground[0] - ground[2]).mean() < 0.25  # nor does it show the new object, which is orange


def test_a_part_that_looks_at_no_depth_is_told_none(discs, clip, marked):
    part = Recording(uses_depth=False)
    shown(StableV2V(generate=part), clip, wish(discs, marked))
    assert all((told.depth == 0).all() for told in part.told)


def test_the_source_stays_around_the_object_and_colours_are_led(discs, clip, marked):
    made = shown(StableV2V(generate=Recording()), clip, wish(discs, marked))
    far = 1 - (torch.nn.functional.max_pool2d(torch.maximum(discs.masks[4], bar(4))[None], 17, 1, 8)[0])
    assert (to_raw(made[4] * far) == to_raw(clip.frame(4) * far)).all()


@pytest.mark.slow
def test_seeds_and_repetition(discs, clip, marked):
    one, again, other = (shown(StableV2V(generate=Recording()), clip, wish(discs, marked), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(discs, clip, marked):
    store = MemoryStore()
    first = StableV2V(generate=Recording())(clip, wish(discs, marked), Run(store=store))
    half = [first.raw(k).copy() for k in range(4)]
    part = Recording()
    second = StableV2V(generate=part)(clip, wish(discs, marked), Run(store=store))
    rest = [second.raw(k) for k in range(COUNT)]
    assert [told.frames for told in part.told] == [(4, 5, 6)]
    whole = StableV2V(generate=Recording())(clip, wish(discs, marked), Run())
    assert all((rest[k] == whole.raw(k)).all() for k in range(COUNT)) and all((rest[k] == half[k]).all() for k in range(4))


@pytest.mark.slow
def test_the_renderer_goes_on_where_it_stopped(discs, clip, marked):
    store = MemoryStore()
    first = StableV2V()(clip, wish(discs, marked[0:1]), Run(store=store))
    for k in range(4):
        first.raw(k)
    again = StableV2V()(clip, wish(discs, marked[0:1]), Run(store=store))
    whole = StableV2V()(clip, wish(discs, marked[0:1]), Run())
    assert all((again.raw(k) == whole.raw(k)).all() for k in (4, 5, 6))


# ------------------------------------------------------------------------------------------------------------ first frame


def test_the_editor_is_told_where_and_its_picture_is_put_back_around(discs, clip, marked):
    editor = Painter(discs)
    method = StableV2V(editor=editor)
    first = method.first_frame(clip, Edit(prompt="a bar", objects=(marked,)), Run())
    assert editor.told[0].prompt == "a bar"
    assert torch.equal(editor.told[0].mask.frame(0)[:1], discs.masks[0])
    assert torch.equal(first[:, 80:], clip.frame(0)[:, 80:])  # far from the object
    assert (first - clip.frame(0)).abs().mean() > 0.01


@pytest.mark.slow
def test_of_several_candidates_the_best_aligned_is_taken(discs, clip, marked):
    notes = {}
    for wanted in (0, 1, 2, 3):
        run = Run(store=MemoryStore())
        method = StableV2V(editor=Painter(discs), candidates=3, candidate=wanted)
        method.first_frame(clip, Edit(prompt="a bar", objects=(marked,)), run)
        notes[wanted] = run.notes.facts["candidates"]
        assert run.store.get("candidates")["picture"].shape[2] == 3
    scores = notes[0]["scores"]
    assert notes[0]["chosen"] == 1 + scores.index(max(scores)) and len(set(scores)) > 1
    assert [notes[number]["chosen"] for number in (1, 2, 3)] == [1, 2, 3]


def test_candidates_that_are_there_are_not_asked_for_again(discs, clip, marked):
    class Failing(Painter):
        def __call__(self, image, edit, generator):
            if len(self.told) == 2:
                raise WorkError("The server does not answer. Repeat the command.")
            return super().__call__(image, edit, generator)

    store, edit = MemoryStore(), Edit(prompt="a bar", objects=(marked,))
    with pytest.raises(WorkError, match="does not answer"):
        StableV2V(editor=Failing(discs), candidates=3).first_frame(clip, edit, Run(store=store))
    editor, run = Painter(discs), Run(store=store)
    picture = StableV2V(editor=editor, candidates=3).first_frame(clip, edit, run)
    assert len(editor.told) == 1 and len(run.notes.facts["candidates"]["scores"]) == 3
    whole = StableV2V(editor=Painter(discs), candidates=3).first_frame(clip, edit, Run())
    assert torch.equal(picture, whole)


@pytest.mark.slow
def test_an_editor_that_knows_its_object_is_believed(discs, clip, marked):
    class Knowing(Painter):
        def with_mask(self, image, edit, generator):
            return painted(self.discs, 0), bar() * (pixel_grid(*SIZE)[:, 0] < 40)

    made = shown(StableV2V(editor=Knowing(discs)), clip, Edit(prompt="a bar", objects=(marked,)))
    right = bar(6) * (pixel_grid(*SIZE)[:, 0] > 60)
    assert ((made[6] - painted(discs, 6)).abs().mean(dim=0) * right).sum() / right.sum() > 0.1


# -------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda d, c, m: wish(d, m[0:3]), "3 masks where the shot has 7 frames"),
        (lambda d, c, m: wish(d, Clip.from_array(torch.zeros(1, 3, *SIZE))), "its mask is empty"),
        (lambda d, c, m: wish(d, Clip.from_array(torch.ones(1, 3, 10, 10))), "mask of 10x10 where the video is 128x96"),
        (lambda d, c, m: Edit(keyframes={0: c.frame(0), 3: c.frame(3)}, objects=(m,)), "2 edited frames"),
        (lambda d, c, m: Edit(keyframes={0: c.frame(0)}, objects=(m,)), "nothing changed"),
        (lambda d, c, m: Edit(prompt="a rabbit", objects=(m,)), "no editor for 'a rabbit'"),
    ],
)
def test_bad_input(discs, clip, marked, make, words):
    with pytest.raises(InputError, match=words):
        StableV2V()(clip, make(discs, clip, marked), Run())


def test_an_object_that_is_seen_later_only_says_when(discs, clip, marked):
    late = Clip.from_array(torch.cat([torch.zeros(2, 3, *SIZE), marked[2:7].frames]))
    with pytest.raises(InputError, match="first seen in frame 2, not in frame 0"):
        StableV2V()(clip, wish(discs, late), Run())


def test_an_editor_that_gives_back_another_shape_is_refused(discs, clip, marked):
    class Square:
        def __call__(self, image, edit, generator):
            return torch.zeros(3, 64, 64)

    with pytest.raises(InputError, match="gave back a picture of 64x64"):
        StableV2V(editor=Square())(clip, Edit(prompt="x", objects=(marked,)), Run())


def test_another_size_of_the_same_shape_is_fitted(discs, clip, marked):
    class Large(Painter):
        def __call__(self, image, edit, generator):
            return torch.nn.functional.interpolate(painted(self.discs, 0)[None], scale_factor=2)[0]

    assert StableV2V(editor=Large(discs))(clip, Edit(prompt="x", objects=(marked,)), Run()).frame(0).shape == (3, *SIZE)


@pytest.mark.parametrize("values", [{"candidates": 2, "candidate": 3}, {"side": 10}, {"candidate": -1}])
def test_impossible_settings(values):
    with pytest.raises(ConfigError, match="cannot be"):
        StableV2V(**values)


# -------------------------------------------------------------------------------------------------------- what a run tells


def test_what_was_worked_out_can_be_looked_at(discs, clip, marked, tmp_path):
    method = StableV2V(dump=str(tmp_path / "seen"))
    list(method(clip[0:3], wish(discs, marked[0:3]), Run()))
    names = sorted(one.name for one in (tmp_path / "seen").iterdir())
    assert names == [f"{what}_{k:06d}.png" for what in ("background", "depth", "mask") for k in (1, 2)]
    mask = from_raw(read_picture(tmp_path / "seen" / "mask_000002.png"))
    assert iou((mask[:1] > 0.5).float(), bar(2)) > 0.85


def test_pseudo_depth_is_called_so(discs, clip, marked):
    run = Run()
    StableV2V()(clip, wish(discs, marked), run)
    assert run.notes.facts["depth"] == "layered pseudo-depth from masks"


def test_an_object_lost_from_sight_is_told(discs, clip, marked):
    run, hidden = Run(), marked.frames.clone()
    hidden[3:] = 0
    list(StableV2V()(clip, wish(discs, Clip.from_array(hidden)), run))
    assert any("not seen in frame 3" in one for one in run.notes.warnings)


def test_a_new_object_beside_the_old_one_is_doubted(discs, clip, marked):
    beside = torch.zeros(1, *SIZE)
    beside[:, 70:90, 90:120] = 1
    run = Run()
    StableV2V()(clip, wish(discs, marked, new_object=beside), run)
    assert any("nowhere on the old one" in one for one in run.notes.warnings)


def test_a_relief_needs_depth_that_is_measured():
    with pytest.raises(ConfigError, match="nothing measures depth"):
        StableV2V(paste="relief").check()


class Slanted:
    """Depth that grows to the right: of any picture the same."""

    def __call__(self, frames):
        return torch.linspace(0.2, 0.8, frames.shape[-1]).expand(len(frames), 3, frames.shape[-2], -1)


@pytest.mark.slow
def test_a_relief_is_the_edited_frames_own_about_the_mean_of_the_old_object(discs, clip, marked):
    told = {}
    for paste in ("mean", "relief"):
        part = Recording()
        shown(StableV2V(generate=part, depth=Slanted(), paste=paste), clip, wish(discs, marked))
        told[paste] = part.told[0]
    inner = -torch.nn.functional.max_pool2d(-bar(2), 7, 1, 3) > 0.5
    flat, slanted = (told[paste].depth[2][inner].quantile(torch.tensor([0.1, 0.5, 0.9])) for paste in ("mean", "relief"))
    assert flat[2] - flat[0] < 0.001 and slanted[2] - slanted[0] > 0.08
    assert float(flat[1]) == pytest.approx(float(slanted[1]), abs=0.03)


# ---------------------------------------------------------------------------------------------------------- several objects


@pytest.mark.slow
def test_several_objects_take_their_own_ways_and_the_nearer_one_lies_over_the_farther():
    """Two discs pass each other, the lower one in front; both become bars."""
    far = Discs(count=9, size=SIZE, velocity=(4.0, 0.0), radius=10.0, start=(40.0, 40.0))
    near = Discs(count=9, size=SIZE, velocity=(-4.0, 0.0), radius=10.0, start=(88.0, 56.0))
    frames = torch.lerp(far.frames, near.frames, near.masks)
    seen = far.masks * (1 - near.masks)
    x, y = pixel_grid(*SIZE)[0]

    def painted(k):
        """Frame k after the edit: an orange bar where the far disc is, a blue one in front of it."""
        ground = texture(pixel_grid(*SIZE), 1)
        for colour, cx, cy in (((1.0, 0.5, 0.0), 40 + 4 * k, 40), ((0.0, 0.3, 1.0), 88 - 4 * k, 56)):
            bar = (((x - cx).abs() <= 14) & ((y - cy).abs() <= 12)).float()
            ground = torch.lerp(ground, torch.tensor(colour)[:, None, None].expand_as(ground), bar)
        return ground.clamp(0, 1)

    objects = tuple(Clip.from_array(one.expand(-1, 3, -1, -1)) for one in (seen, near.masks))
    made = shown(StableV2V(), Clip.from_array(frames), Edit(keyframes={0: painted(0)}, objects=objects))
    for k in (2, 6, 8):  # they overlap in frame 6
        for cx, cy, colour in ((40 + 4 * k, 36, (1.0, 0.5, 0.0)), (88 - 4 * k, 58, (0.0, 0.3, 1.0))):
            assert made[k][:, cy, cx].tolist() == pytest.approx(colour, abs=0.15), (k, cx)
    assert made[6][:, 48, 64].tolist() == pytest.approx([0.0, 0.3, 1.0], abs=0.15)  # both bars are here
