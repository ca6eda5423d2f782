"""Ring, visibility, unseen tokens, token paths, background: against the stored tensors, a plain loop and closed forms."""

import time

import pytest
import torch
import torch.nn.functional as F
from test_fresco_data import CASES, SIZES, array, background, flows, frames, off, ring, seen

from flowpaint.errors import ShapeError
from flowpaint.parts.consistency import ring as rings
from flowpaint.parts.consistency.background import background_map, smooth_features, smooth_pictures
from flowpaint.parts.consistency.paths import assigned, chained, neighbours, token_paths
from flowpaint.parts.consistency.ring import Ring, dilate, first_frame_tokens, sampled, through, unseen_tokens

TIES = ("F4_zoom_ties", "F6_smooth_blob_ties")
WAYS = {"fwd": 0, "bwd": 1}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_warp_is_the_stored_one(case, way):
    vectors = flows(case)[WAYS[way]][:, :, ::4, ::4] / 4
    found = through(array("flow_warp", "feature_random"), vectors)
    assert off(found, array("flow_warp", f"warped_feature_random_by_flow_{way}_{case}")) < 1e-6


@pytest.mark.parametrize("case", ["F4_zoom", "F6_smooth_blob"])
def test_warp_of_a_picture_is_the_stored_one(case):
    found = through(255 * frames()[:1, :1], flows(case)[1][:1])
    assert off(found, array("flow_warp", f"warped_frame0_red_by_flow_bwd_pair0_{case}")) < 5e-4


@pytest.mark.parametrize("case", [*CASES, *TIES])
def test_visibility_is_the_stored_one(case):
    forward, backward = flows(case)
    found = rings.ring(frames(case), forward, backward)
    pairs = [(found.seen_backward, seen("full_bwd", case))]
    if case in CASES:
        pairs += [
            (found.seen_forward, seen("full_fwd", case)),
            (rings.seen(forward, backward), seen("fb_only_fwd", case)),
            (rings.seen(backward, forward), seen("fb_only_bwd", case)),
        ]
    allowed = 0.0005 if case.startswith("F6") else 0.0
    for one, wanted in pairs:
        assert (one != wanted).float().mean() <= allowed
        assert one.dtype == torch.float32


@pytest.mark.parametrize("divisor", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_unseen_tokens_are_the_stored_ones(case, divisor):
    found = unseen_tokens(seen("full_bwd", case), *SIZES[divisor])
    assert torch.equal(found, array("unseen_masks", f"unseen_div{divisor}_{case}"))


@pytest.mark.parametrize("divisor", [8, 16])
@pytest.mark.parametrize("case", [*CASES, *TIES])
def test_token_paths_are_the_stored_ones(case, divisor):
    given = frames(case), flows(case)[1], seen("full_bwd", case), SIZES[divisor]
    end = f"div{divisor}_{case}"
    matched, linked = neighbours(*given)
    assert torch.equal(matched, array("token_mapping", f"pair_permutation_{end}"))
    assert torch.equal(~linked, array("token_mapping", f"pair_unlinked_{end}"))
    paths = token_paths(*given)
    assert torch.equal(paths.tokens, array("token_mapping", f"path_index_{end}")[:, 0])
    assert torch.equal(paths.paths, array("token_mapping", f"path_inverse_{end}")[:, 0])
    assert torch.equal(paths.joined, array("token_mapping", f"path_mask_{end}")[:, 0])


def by_loop(place, error):
    """One token after the other, as one would write it down: the reference for `assigned`."""
    num_pairs, num_tokens = place.shape
    matched = torch.full((num_pairs, num_tokens), -1)
    linked = torch.zeros(num_pairs, num_tokens, dtype=torch.bool)
    for pair in range(num_pairs):
        for token in range(num_tokens):
            wanted = place[pair, token].item()
            if wanted == num_tokens:
                continue
            holder = matched[pair, wanted].item()
            if holder < 0 or error[pair, token] < error[pair, holder]:
                matched[pair, wanted] = token
                linked[pair, wanted] = True
        taken = set(matched[pair].tolist())
        left = iter([token for token in range(num_tokens) if token not in taken])
        for slot in range(num_tokens):
            if matched[pair, slot] < 0:
                matched[pair, slot] = next(left)
    return matched, linked


def test_sorting_gives_what_a_loop_gives():
    generator = torch.Generator().manual_seed(3)
    for num_tokens in (1, 2, 7, 30):
        for _ in range(15):
            place = torch.randint(num_tokens + 1, (3, num_tokens), generator=generator)
            error = torch.randint(3, (3, num_tokens), generator=generator) / 2  # many ties
            matched, linked = assigned(place, error)
            wanted, bound = by_loop(place, error)
            assert torch.equal(matched, wanted)
            assert torch.equal(linked, bound)


def test_paths_are_permutations_cut_into_segments():
    generator = torch.Generator().manual_seed(5)
    place = torch.randint(41, (5, 40), generator=generator)
    paths = chained(*assigned(place, torch.rand(5, 40, generator=generator)))
    everything = torch.arange(40).expand(6, -1)
    assert torch.equal(paths.tokens.sort(dim=1).values, everything)
    assert torch.equal(paths.tokens.gather(1, paths.paths), everything)
    assert torch.equal(paths.joined, paths.joined.transpose(1, 2))
    assert paths.joined.diagonal(dim1=1, dim2=2).all()
    # Frames between two joined ones are joined to both.
    assert (paths.joined[:, 0, 2] <= paths.joined[:, 0, 1] & paths.joined[:, 1, 2]).all()


def still(num_frames, height, width):
    zero = torch.zeros(num_frames, 2, height, width)
    return Ring(forward=zero, backward=zero, seen_forward=zero[:, :1] + 1, seen_backward=zero[:, :1] + 1)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 24), (5, 7), (1, 1)])
def test_a_still_clip_of_any_length_and_size_stays(num_frames, size):
    height, width = 8 * size[0], 8 * size[1]
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)).repeat(num_frames, 1, 1, 1)
    zero = torch.zeros(num_frames, 2, height, width)
    found = rings.ring(picture, zero, zero)
    assert found.seen_forward.min() == found.seen_backward.min() == 1
    paths = token_paths(picture, zero, found.seen_backward, size)
    assert torch.equal(paths.tokens, torch.arange(size[0] * size[1]).expand(num_frames, -1))
    assert paths.joined.all()
    assert torch.equal(unseen_tokens(found.seen_backward, *size), first_frame_tokens(num_frames, size[0] * size[1]))
    feature = torch.rand(1, 4, *size).repeat(2 * num_frames, 1, 1, 1)
    assert off(smooth_features(feature, found, torch.ones(num_frames, 1, height, width)), feature) < 1e-5


def test_paths_follow_a_shift():
    # Content moves two tokens to the right: what token p shows in frame 1 was at p - 2 in frame 0.
    picture = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(2))
    pictures = torch.cat([picture, picture.roll(16, dims=-1), picture.roll(32, dims=-1)])
    backward = torch.zeros(3, 2, 32, 64)
    backward[:2, 0] = -16
    visible = torch.ones(3, 1, 32, 64)
    paths = token_paths(pictures, backward, visible, (4, 8))
    column = torch.arange(32) % 8
    assert torch.equal(paths.tokens[1][column < 6], torch.arange(32)[column < 6] + 2)
    assert paths.joined[column < 4].all()
    assert not paths.joined[column >= 6][:, 0, 1:].any()
    assert torch.equal(paths.joined[column >= 6][:, 1, 2], paths.tokens[1][column >= 6] % 8 < 6)


def test_a_flow_that_is_not_a_number_leads_nowhere():
    backward = torch.full((2, 2, 16, 16), torch.nan)
    paths = token_paths(torch.rand(2, 3, 16, 16), backward, torch.ones(2, 1, 16, 16), (2, 2))
    assert torch.equal(paths.tokens[1], torch.arange(4))
    assert not paths.joined[:, 0, 1].any()


def test_token_paths_are_much_faster_than_a_loop():
    """At 512 x 512 with 8 frames. The loop is timed on a part of the tokens: its cost is the same for each."""
    generator = torch.Generator().manual_seed(7)
    place = torch.randint(4097, (7, 4096), generator=generator)
    error = torch.rand(7, 4096, generator=generator)
    few = torch.randint(401, (1, 400), generator=generator)

    def spent(work):
        """Least processor time of three runs: others may be at work beside this test."""
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    slow = spent(lambda: by_loop(few, error[:1, :400])) * 7 * 4096 / 400
    assert slow > 10 * spent(lambda: assigned(place, error))  # the whole, and the goal of 50, are measured by the script


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("divisor", [8, 16])
def test_background_of_features_is_the_stored_one(case, divisor):
    given = array("warp_blend", f"sample_div{divisor}")
    kept = given.clone()
    found = smooth_features(given, ring(case), background())
    assert off(found, array("warp_blend", f"blended_div{divisor}_chunk2_{case}")) < 2e-5
    assert torch.equal(given, kept), "the input is never written to"


def test_background_of_one_stream_and_of_small_saliency():
    given = array("warp_blend", "sample_div8")
    found = smooth_features(given[:4], ring(), background())
    assert off(found, array("warp_blend", "blended_div8_chunk1_F6_smooth_blob")) < 2e-5
    found = smooth_features(given, ring(), array("warp_blend", "saliency_half_resolution"))
    assert off(found, array("warp_blend", "blended_div8_chunk2_halfres_saliency_F6_smooth_blob")) < 2e-5


def test_background_of_pictures_is_the_stored_one():
    found = smooth_pictures(2 * frames() - 1, ring(), background())[:, 1:2, ::2, ::2]
    assert off(found, array("warp_blend", "blended_image_green_chunk1_F6_smooth_blob_pixels_every2")) < 2e-5


def test_growth_is_the_stored_one():
    hidden = array("occlusion", "occ_full_bwd_F6_smooth_blob")[:1, None].float()
    wanted = array("warp_blend", "dilate13_occ_bwd_pair0_F6_smooth_blob")
    assert torch.equal(dilate(hidden, 13) > 0.5, wanted)
    assert torch.equal(dilate(hidden, 1), hidden)


def test_the_input_is_only_written_by_the_reference():
    assert array("warp_blend", "input_modified_in_place_float32").item()  # what ours is asserted not to do above
    assert not array("warp_blend", "input_modified_in_place_float16").item()


def test_background_map_is_a_soft_growth():
    foreground = torch.zeros(1, 1, 20, 20)
    foreground[..., 10, 10] = 0.25
    found = background_map(foreground)
    both = background_map(foreground + foreground.roll(2, dims=-1))
    assert both[..., 10, 10].item() == 0.5  # a sum, not the largest
    assert found[..., 7:14, 7:14].unique().tolist() == [0.75]
    assert found.sum() == 400 - 49 / 4
    assert background_map(torch.ones(1, 1, 4, 5)).max() == 0


def test_background_travels_from_the_first_frame_to_the_last():
    features = torch.arange(4.0)[:, None, None, None].expand(4, 1, 4, 6)
    found = smooth_features(features, still(4, 32, 48), torch.ones(4, 1, 32, 48))
    assert found.abs().max() == 0
    half = smooth_features(features, still(4, 32, 48), torch.full((4, 1, 32, 48), 0.5))
    # Weight 1/4, from the frame before as it has become; the last once more from the first.
    first, second = 0.75 * 1, 0.75 * 2 + 0.25 * 0.75
    wanted = [0, first, second, 0.75 * (0.75 * 3 + 0.25 * second)]
    assert half[:, 0, 2, 2].tolist() == pytest.approx(wanted, abs=1e-5)


def test_one_hidden_pixel_hides_its_cell():
    found = still(1, 16, 24)
    found.seen_forward[0, 0, 3, 5] = 0
    at = found.at(2, 3)
    assert at.seen_forward[0, 0].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert at.seen_backward.min() == 1
    assert found.grown(3).seen_forward.sum() == 16 * 24 - 9


def test_flow_is_read_at_cell_centres_in_cells():
    flow = torch.zeros(1, 2, 16, 16)
    flow[0, 0, 3, 4] = 8.0
    flow[0, 1] = torch.arange(16.0)[:, None]
    found = rings.sampled_flow(flow, 2, 2)
    assert found[0, 0].tolist() == [[0.25, 0], [0, 0]]  # one pixel of the central four, in cells of 8
    assert found[0, 1, :, 0].tolist() == [3.5 / 8, 11.5 / 8]
    assert torch.equal(sampled(flow, 16, 16), flow)


@pytest.mark.parametrize("size", [(2, 3), (8, 12), (16, 24), (5, 7), (16, 12), (1, 1), (64, 48)])
def test_reading_cell_centres_is_bilinear(size):
    maps = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(sampled(maps, *size), F.interpolate(maps, size=size, mode="bilinear", align_corners=False))


def test_wrong_shapes_are_named():
    with pytest.raises(ShapeError, match="backward"):
        Ring(
            forward=torch.zeros(2, 2, 8, 8),
            backward=torch.zeros(1, 2, 8, 8),
            seen_forward=torch.zeros(2, 1, 8, 8),
            seen_backward=torch.zeros(2, 1, 8, 8),
        )
    with pytest.raises(ShapeError, match="backward has"):
        token_paths(torch.zeros(3, 3, 8, 8), torch.zeros(2, 2, 8, 8), torch.zeros(2, 1, 8, 8), (1, 1))


def test_max_pooling_does_not_need_whole_cells():
    hidden = torch.zeros(1, 1, 10, 10)
    hidden[0, 0, 9, 9] = 1
    found = Ring(
        forward=torch.zeros(1, 2, 10, 10), backward=torch.zeros(1, 2, 10, 10), seen_forward=1 - hidden, seen_backward=1 - hidden
    ).at(3, 3)
    assert torch.equal(1 - found.seen_forward, F.adaptive_max_pool2d(hidden, (3, 3)))
