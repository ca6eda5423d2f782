"""FRESCO-guided attention: against the stored outputs of one layer, the formula written out in float64, and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_fresco_data import FRAMES, array

from flowpaint.errors import ShapeError
from flowpaint.parts.consistency.attention import cross_frame, guided, spatial_guided, temporal_guided
from flowpaint.parts.consistency.paths import TokenPaths, assigned, chained
from flowpaint.parts.consistency.ring import first_frame_tokens

HEADS = 2
FILE = "attention_site"


def split(x):
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


def projected(x, kind="self", context=None):
    context = x if context is None else context
    weights = {name: array(FILE, f"{kind}_to_{name}_weight") for name in "qkv"}
    return split(x @ weights["q"].T), split(context @ weights["k"].T), split(context @ weights["v"].T)


def out(x, kind="self"):
    return x.transpose(1, 2).flatten(2) @ array(FILE, f"{kind}_to_out_weight").T + array(FILE, f"{kind}_to_out_bias")


def stored_paths(divisor, case="F6_smooth_blob"):
    end = f"div{divisor}_{case}"
    return TokenPaths(
        tokens=array("token_mapping", f"path_index_{end}")[:, 0],
        paths=array("token_mapping", f"path_inverse_{end}")[:, 0],
        joined=array("token_mapping", f"path_mask_{end}")[:, 0],
    )


def site(divisor, *, spatial, crossframe, temporal):
    q, k, v = projected(array(FILE, f"hidden_states_div{divisor}"))
    reference = projected(array(FILE, f"reference_hidden_states_div{divisor}"))[:2]
    return out(
        guided(
            q, k, v,
            reference=reference if spatial else None,
            unseen=array("unseen_masks", f"unseen_div{divisor}_F6_smooth_blob") if crossframe else None,
            paths=stored_paths(divisor) if temporal else None,
        )
    )  # fmt: skip


@pytest.mark.parametrize("divisor", [8, 16])
@pytest.mark.parametrize("spatial", [0, 1])
@pytest.mark.parametrize("crossframe", [0, 1])
@pytest.mark.parametrize("temporal", [0, 1])
def test_each_combination_of_stages_is_the_stored_one(divisor, spatial, crossframe, temporal):
    found = site(divisor, spatial=spatial, crossframe=crossframe, temporal=temporal)
    every, end = (3, "_tokens_every3") if divisor == 8 else (1, "")
    name = f"out_div{divisor}_spatial{spatial}_crossframe{crossframe}_temporal{temporal}{end}"
    torch.testing.assert_close(found[:, ::every], array(FILE, name), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("divisor", [8, 16])
def test_where_nothing_was_measured_all_attend_to_the_first_frame(divisor):
    q, k, v = projected(array(FILE, f"hidden_states_div{divisor}"))
    found = out(guided(q, k, v, unseen=first_frame_tokens(FRAMES, q.shape[2])))
    every, end = (3, "_tokens_every3") if divisor == 8 else (1, "")
    wanted = array(FILE, f"out_div{divisor}_crossframe_fallback_first_frame{end}")
    torch.testing.assert_close(found[:, ::every], wanted, atol=2e-5, rtol=1e-4)


def test_cross_attention_is_the_plain_one():
    q, k, v = projected(array(FILE, "hidden_states_div16"), "cross", array(FILE, "encoder_hidden_states_div16"))
    found = out(F.scaled_dot_product_attention(q, k, v), "cross")
    wanted = array(FILE, "out_div16_cross_attention_all_stages_enabled")
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def draws(count, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for _ in range(count)]


def some_paths(num_frames, num_tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(num_tokens + 1, (num_frames - 1, num_tokens), generator=generator)
    return chained(*assigned(place, torch.rand(num_frames - 1, num_tokens, generator=generator)))


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_the_formulas_token_by_token(num_frames):
    streams, heads, length, dim = 2, 3, 10, 4
    q, k, v, rq, rk = (x.double() for x in draws(5, streams * num_frames, heads, length, dim))
    unseen = torch.rand(num_frames, length, generator=torch.Generator().manual_seed(1)) < 0.3
    unseen[0] = True
    paths = some_paths(num_frames, length) if num_frames > 1 else chained(*torch.zeros(2, 0, length, dtype=torch.bool))
    guided_q = (rq @ rk.mT / (5 * math.sqrt(dim))).softmax(-1) @ q
    torch.testing.assert_close(spatial_guided(q, rq, rk), guided_q)
    across, along = torch.empty_like(v), torch.empty_like(v)
    for stream in range(streams):
        rows = range(stream * num_frames, (stream + 1) * num_frames)
        chosen = [(row, p) for frame, row in enumerate(rows) for p in range(length) if unseen[frame, p]]
        for head in range(heads):
            keys = torch.stack([k[row, head, p] for row, p in chosen])
            values = torch.stack([v[row, head, p] for row, p in chosen])
            for row in rows:
                across[row, head] = (guided_q[row, head] @ keys.T / math.sqrt(dim)).softmax(-1) @ values
    torch.testing.assert_close(cross_frame(guided_q, k, v, unseen), across)
    for stream in range(streams):
        for head in range(heads):
            for path in range(length):
                at = [(stream * num_frames + i, head, paths.tokens[i, path].item()) for i in range(num_frames)]
                for i, here in enumerate(at):
                    near = [other for j, other in enumerate(at) if paths.joined[path, i, j]]
                    keys, values = torch.stack([k[one] for one in near]), torch.stack([across[one] for one in near])
                    along[here] = (keys @ q[here] / (5 * math.sqrt(dim))).softmax(0) @ values
    found = guided(q, k, v, reference=(rq, rk), unseen=unseen, paths=paths)
    torch.testing.assert_close(found, along, atol=1e-6, rtol=1e-6)  # the softmax over frames is float32


def test_a_token_alone_keeps_its_value():
    q, k, v = draws(3, 6, 2, 5, 4)
    apart = chained(torch.arange(5).expand(2, -1), torch.zeros(2, 5, dtype=torch.bool))
    assert torch.equal(temporal_guided(q, k, v, apart), v)


def test_streams_never_see_one_another():
    q, k, v = draws(3, 6, 2, 5, 4)
    paths, unseen = some_paths(3, 5), torch.ones(3, 5, dtype=torch.bool)
    before = guided(q, k, v, unseen=unseen, paths=paths)
    k[3:] += 1
    v[3:] -= 2
    after = guided(q, k, v, unseen=unseen, paths=paths)
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


def test_equal_frames_come_out_equal():
    q, k, v = (x.repeat(2, 1, 1, 1) for x in draws(3, 1, 2, 6, 4))
    joined = chained(torch.arange(6)[None], torch.ones(1, 6, dtype=torch.bool))
    unseen = first_frame_tokens(2, 6)
    found = guided(q, k, v, unseen=unseen, paths=joined)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v))


def test_keys_are_shared_not_copied():
    """The attention call sees one list of keys a stream, however many frames ask."""
    q, k, v = draws(3, 8, 2, 6, 4)
    unseen = first_frame_tokens(4, 6)
    calls = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is F.scaled_dot_product_attention:
                calls.append([tuple(x.shape) for x in args[:3]])
            return function(*args, **(kwargs or {}))

    with Watch():
        cross_frame(q, k, v, unseen)
    assert calls == [[(2, 2, 24, 4), (2, 2, 6, 4), (2, 2, 6, 4)]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type(dtype):
    q, k, v = (x.to(dtype) for x in draws(3, 6, 2, 5, 4))
    paths, unseen = some_paths(3, 5), torch.ones(3, 5, dtype=torch.bool)
    found = guided(q, k, v, reference=(q, k), unseen=unseen, paths=paths)
    assert found.dtype == dtype
    exact = guided(*(x.float() for x in (q, k, v)), reference=(q.float(), k.float()), unseen=unseen, paths=paths)
    torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.03)


def test_tables_of_another_size_are_refused():
    q, k, v = draws(3, 6, 2, 5, 4)
    with pytest.raises(ShapeError, match="unseen"):
        cross_frame(q, k, v, first_frame_tokens(3, 6))
    with pytest.raises(ShapeError, match="tokens"):
        temporal_guided(q, k, v, some_paths(3, 6))
