"""Hooks: laid in exactly, taken out exactly."""

import threading

import pytest
import torch
from torch import nn

from flowpaint.diffusion.hooked import Hooks, Site, State, attend, during, hooked, is_hooked, sites
from flowpaint.errors import ConfigError, ShapeError
from tiny_models import tiny_unet, with_ip_adapter

STATE = State(t=651, frames=(4, 5, 6), streams=("uncond", "cond"))


@pytest.fixture(params=["1", "2"])
def unet(request):
    return tiny_unet(request.param)


def inputs(height=16, width=24):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(6, 4, height, width, generator=generator), torch.randn(6, 7, 16, generator=generator)


def run(unet, height=16, width=24):
    x, text = inputs(height, width)
    with torch.no_grad(), during(STATE):
        return unet(x, 651, encoder_hidden_states=text).sample


def stock(q, k, v, site, state):
    return attend(q, k, v)


def footprint(unet):
    """Every hook and every processor there is."""
    laid = [(name, len(one._forward_hooks), len(one._forward_pre_hooks)) for name, one in unet.named_modules()]
    return laid, {name: id(one) for name, one in unet.attn_processors.items()}


def test_a_core_equal_to_the_stock_one_changes_not_a_bit(unet):
    before = run(unet)
    seen = []
    with hooked(unet, Hooks(attention=lambda *given: seen.append(given[3]) or stock(*given), features=lambda h, site, state: h)):
        assert torch.equal(run(unet), before)
    assert len(seen) == sum(name.endswith("attn1.processor") for name in unet.attn_processors) > 0


def test_none_leaves_the_layer_to_itself(unet):
    before = run(unet)
    with hooked(unet, Hooks(attention=lambda *given: None)):
        assert torch.equal(run(unet), before)


@pytest.mark.parametrize("fails", [False, True])
def test_all_is_as_it_was_afterwards(unet, fails):
    before, laid = run(unet), footprint(unet)

    def features(h, site, state):
        if fails and site.index == 2:
            raise KeyError("stop")
        return h * 1.5

    hooks = Hooks(attention=lambda q, k, v, site, state: attend(q, k, v) * 2, features=features, features_at=lambda site: True)
    if fails:
        with pytest.raises(KeyError), hooked(unet, hooks):
            run(unet)
    else:
        with hooked(unet, hooks):
            assert is_hooked(unet)
            assert not torch.allclose(run(unet), before)
    assert footprint(unet) == laid
    assert not is_hooked(unet)
    assert torch.equal(run(unet), before)


def test_an_error_while_laying_in_leaves_nothing(unet):
    laid = footprint(unet)

    def choose(site):
        if site.stage == "up" and site.index == 3:
            raise KeyError("no")
        return True

    for hooks in (
        Hooks(features=lambda h, site, state: h, features_at=choose),
        Hooks(features=lambda h, site, state: h, attention=stock, attention_at=choose),
    ):
        with pytest.raises(KeyError), hooked(unet, hooks):
            pass
        assert footprint(unet) == laid


def test_a_pre_hook_optimises_inside_no_grad(unet):
    before, losses = run(unet), []

    def features(h, site, state):
        target = h.roll(1, dims=1)
        with torch.enable_grad():
            free = h.detach().clone().requires_grad_(True)
            optimiser = torch.optim.Adam([free], lr=0.05)
            for _ in range(4):
                loss = (free - target).square().mean()
                losses.append(loss.item())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return free

    with hooked(unet, Hooks(features=features)):
        out = run(unet)
    assert not out.requires_grad
    assert losses[3] < losses[0]
    assert not torch.allclose(out, before)
    assert all(one.grad is None for one in unet.parameters())


def test_sites_say_what_the_tensors_are(unet):
    seen = []

    def attention(q, k, v, site, state):
        assert q.shape == (2, 3, site.heads, site.height * site.width, site.channels // site.heads)
        assert state == STATE
        seen.append(site)
        return attend(q, k, v)

    def features(h, site, state):
        assert h.shape == (2, 3, site.channels, site.height, site.width)
        seen.append(site)
        return h

    hooks = Hooks(attention=attention, features=features, features_at=lambda site: True)
    with hooked(unet, hooks):
        run(unet, 13, 22)  # sides that cannot be halved three times
    assert tuple(seen) == sites(unet, 13, 22)
    blocks = [site for site in seen if site.kind == "block"]
    assert [site.depth for site in blocks] == [3, 2, 1, 0]
    assert [(site.height, site.width) for site in blocks] == [(2, 3), (4, 6), (7, 11), (13, 22)]
    assert [site.channels for site in blocks] == [32, 32, 32, 32]


def test_only_chosen_sites_are_called(unet):
    seen = []

    def attention(q, k, v, site, state):
        seen.append((site.stage, site.depth))
        return attend(q, k, v)

    with hooked(unet, Hooks(attention=attention, attention_at=lambda site: site.stage == "up" and site.depth <= 1)):
        run(unet)
    assert seen == [("up", 1)] * 2 + [("up", 0)] * 2


def test_the_block_hook_stands_before_the_skips(unet):
    block = unet.up_blocks[2]
    widths = []
    with hooked(unet, Hooks(features=lambda h, site, state: torch.zeros_like(h), features_at=lambda site: site.index == 2)):
        handle = block.resnets[0].register_forward_pre_hook(lambda _module, args: widths.append(args[0]))
        run(unet)
        handle.remove()
    joined = widths[0]
    assert joined.shape[1] > 32  # with a skip
    assert torch.equal(joined[:, :32], torch.zeros_like(joined[:, :32])) and joined[:, 32:].abs().max() > 0


def test_conv_sites_stand_before_the_shortcut(unet):
    """output = (shortcut + conv) / 1, so adding 1 to the one is adding 1 to the other."""
    got = []
    at = lambda kind: lambda site: site == Site(kind=kind, stage="up", index=1, layer=0, depth=2, channels=32)  # noqa: E731
    for kind in ("conv", "resnet"):
        with hooked(unet, Hooks(features=lambda h, site, state: h + 1, features_at=at(kind))):
            got.append(run(unet))
    assert torch.allclose(got[0], got[1], atol=1e-6)
    assert not torch.allclose(got[0], run(unet), atol=1e-4)


def test_strategies_nest(unet):
    before, laid = run(unet), footprint(unet)
    called = []

    def outer(q, k, v, site, state):
        called.append("outer")
        return attend(q, k, v) * 2

    with hooked(unet, Hooks(attention=outer)):
        alone = run(unet)
        called.clear()
        with hooked(unet, Hooks(attention=lambda *given: called.append("inner"))):
            assert torch.equal(run(unet), alone)
        assert called[:2] == ["inner", "outer"]
        assert torch.equal(run(unet), alone)
    assert footprint(unet) == laid and torch.equal(run(unet), before)


def test_keys_of_one_frame_serve_all():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, frames, 2, 5, 4, generator=generator) for frames in (3, 1, 1))
    copied = attend(q, k.expand(-1, 3, -1, -1, -1), v.expand(-1, 3, -1, -1, -1))
    assert torch.allclose(attend(q, k, v), copied, atol=1e-6)
    by_hand = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    assert torch.allclose(copied, by_hand, atol=1e-6)


def test_another_thread_waits(unet):
    order = []

    def other():
        with hooked(unet, Hooks(attention=stock)):
            order.append("other")

    thread = threading.Thread(target=other)
    with hooked(unet, Hooks(attention=stock)):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "other"]


def test_what_does_not_fit_is_said(unet):
    with pytest.raises(ConfigError, match="Linear takes no hooks"), hooked(nn.Linear(1, 1), Hooks(attention=stock)):
        pass
    with pytest.raises(ShapeError, match="attention hook"), hooked(unet, Hooks(attention=lambda q, *rest: q[:, :1])):
        run(unet)
    with pytest.raises(ShapeError, match="feature hook"), hooked(unet, Hooks(features=lambda h, *rest: h[:, :1])):
        run(unet)
    with pytest.raises(ShapeError, match="2 streams of 3 frames"):
        STATE.split(torch.zeros(5, 1))


def test_an_ip_adapter_stays_in(unet):
    unet = with_ip_adapter(unet)
    x, text = inputs()
    image = torch.randn(6, 1, 8, generator=torch.Generator().manual_seed(8))

    def painted(image):
        with torch.no_grad(), during(STATE):
            return unet(x, 651, text, added_cond_kwargs={"image_embeds": [image]}).sample

    plain, laid = painted(image), footprint(unet)
    assert not torch.allclose(plain, painted(-image), atol=1e-4)
    with hooked(unet, Hooks(attention=stock, features=lambda h, site, state: h)):
        assert torch.equal(painted(image), plain)
    assert footprint(unet) == laid
    assert torch.equal(painted(image), plain)
