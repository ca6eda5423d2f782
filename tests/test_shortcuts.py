"""What is left out of some steps: how often networks are run, what comes out, and that nothing stale is used."""

import gc
import weakref
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from flowpaint.diffusion import compiling
from flowpaint.diffusion.bound import Pace
from flowpaint.diffusion.compiling import form
from flowpaint.diffusion.denoising import Conditions, Denoiser, Networks, SourceStream
from flowpaint.diffusion.hooked import Hooks, State, during, hooked, sites
from flowpaint.diffusion.levels import Schedule
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.diffusion.sampling import invert, noise_levels, sample
from flowpaint.diffusion.shortcuts import Kept, Shortcuts
from flowpaint.errors import ConfigError
from flowpaint.methods.flowvid import FlowVid
from flowpaint.networks.video_unet import VideoUNet, widened
from flowpaint.seams import Run
from flowpaint.types import Edit
from tiny_models import save_controlnet, save_video_model, tiny_controlnet, tiny_unet

SCHEDULE = Schedule.from_config({"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"})
NUM_STEPS = 6


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["image", "video"])
def networks(request):
    unet = tiny_unet()
    kit = {"schedule": SCHEDULE, "dtype": torch.float32, "cell": 8, "multiple": 8, "offload": False, "batch": 8}
    if request.param == "image":
        return Networks(unet=unet, controlnets=((tiny_controlnet(unet), 1.0),), **kit)
    video, wide = VideoUNet.inflated(unet), widened(tiny_controlnet(unet), 13)
    torch.manual_seed(5)
    with torch.no_grad():
        for name in sorted(video.new_names):
            video.state_dict()[name].normal_(std=0.05)
    return Networks(unet=video, controlnets=((wide, 1.0),), **kit)


def told(networks, num_frames=3, **more):
    joined = {"concat": draw(num_frames, 9, 8, 8, seed=1)} if networks.unet.config.in_channels == 13 else {}
    control = draw(num_frames, 3, 64, 64, seed=4).sigmoid()
    return Conditions(text=draw(2, 7, 16, seed=2), controls=[control], **joined, **more)


def denoiser(networks, **more):
    shortcuts = {name: more.pop(name) for name in ("control_every", "control_until", "deep_every") if name in more}
    return Denoiser(networks, told(networks, shortcuts=Shortcuts(**shortcuts), **more))


def step(denoise, x, number, t=500, **more):
    with during(State(step=number, num_steps=NUM_STEPS, **more)):
        return denoise(x, t)


@contextmanager
def counted(networks):
    """How often each block and the ControlNet are run."""
    calls, unet = Counter(), networks.unet
    modules = {"control": networks.controlnets[0][0], "mid": unet.mid_block}
    modules["downsampler"] = unet.down_blocks[0].downsamplers[0]
    modules |= {f"down{place}": one for place, one in enumerate(unet.down_blocks)}
    modules |= {f"up{place}": one for place, one in enumerate(unet.up_blocks)}

    def count(name):
        return lambda *_: calls.update([name])

    handles = [one.register_forward_pre_hook(count(name)) for name, one in modules.items()]
    try:
        yield calls
    finally:
        for one in handles:
            one.remove()


def test_without_shortcuts_nothing_is_made_and_not_a_bit_differs(networks):
    x = draw(3, 4, 8, 8, seed=3)
    plain = Denoiser(networks, told(networks))
    unet, before = networks.unet, dict(vars(networks.unet))
    found = [step(denoiser(networks), x, number) for number in range(2)]
    assert all(torch.equal(one, plain(x, 500)) for one in found)
    assert networks.unet not in compiling._FORMS and dict(vars(unet)) == before
    assert form(unet) is unet


def test_control_is_run_every_other_step(networks):
    x, denoise = draw(3, 4, 8, 8, seed=3), denoiser(networks, control_every=2)
    with counted(networks) as calls:
        found = [step(denoise, x, number) for number in range(NUM_STEPS)]
    assert calls["control"] == NUM_STEPS // 2 and calls["mid"] == NUM_STEPS
    assert all(torch.equal(one, denoiser(networks)(x, 500)) for one in found)  # where nothing changes, nothing is lost
    moved = [step(denoise, draw(3, 4, 8, 8, seed=9), number, t=100) for number in (0, 1)]  # another walk begins
    assert torch.equal(moved[0], moved[1]) and torch.equal(moved[0], denoiser(networks)(draw(3, 4, 8, 8, seed=9), 100))


def test_what_control_said_one_step_before_is_what_is_used(networks):
    x, y = draw(3, 4, 8, 8, seed=3), draw(3, 4, 8, 8, seed=9)
    denoise, fresh = denoiser(networks, control_every=2), denoiser(networks)
    step(denoise, x, 0)
    found = step(denoise, y, 1, t=450)
    plain = fresh._residuals
    rows, joined = fresh._latents(x, SCHEDULE.level(500), State(frames=(0, 1, 2), streams=("uncond", "cond")))
    state = State(t=500, frames=(0, 1, 2), streams=("uncond", "cond"))
    with torch.no_grad():
        kept = plain(rows, joined, state, {"encoder_hidden_states": fresh._text(state), "return_dict": False})
    fresh._residuals = lambda *_: kept
    assert torch.equal(found, fresh(y, 450))
    assert not torch.allclose(found, denoiser(networks)(y, 450), atol=1e-3)


def test_control_is_left_out_after_its_share(networks):
    x, bare = draw(3, 4, 8, 8, seed=3), replace(networks, controlnets=())
    with counted(networks) as calls:
        found = [step(denoiser(networks, control_until=0.5), x, number) for number in range(NUM_STEPS)]
    assert calls["control"] == NUM_STEPS // 2
    assert torch.equal(found[2], denoiser(networks)(x, 500))
    assert torch.equal(found[3], Denoiser(bare, replace(told(networks), controls=()))(x, 500))
    with counted(networks) as calls:
        denoiser(networks, control_until=0.0)(x, 500)
    assert calls["control"] == 0


@pytest.mark.parametrize("control", [True, False])
def test_deep_blocks_are_run_every_other_step(networks, control):
    x = draw(3, 4, 8, 8, seed=3)
    denoise = denoiser(networks, deep_every=2, control_until=1.0 if control else 0.0)
    with counted(networks) as calls:
        found = [step(denoise, x, number) for number in range(NUM_STEPS)]
    deep = ("downsampler", "down1", "down2", "down3", "mid", "up0", "up1", "up2")
    assert {calls[one] for one in deep} == {NUM_STEPS // 2} and calls["up3"] == NUM_STEPS
    plain = denoiser(networks, control_until=1.0 if control else 0.0)(x, 500)
    assert torch.equal(found[0], plain)
    assert all(torch.allclose(one, plain, atol=1e-6) for one in found)


def test_the_shallow_blocks_see_what_is_new(networks):
    x, y = draw(3, 4, 8, 8, seed=3), draw(3, 4, 8, 8, seed=9)
    denoise = denoiser(networks, deep_every=3)
    inputs = []
    handle = networks.unet.up_blocks[-1].register_forward_pre_hook(lambda _m, _a, kwargs: inputs.append(kwargs), with_kwargs=True)
    try:
        found = [step(denoise, x, 0), step(denoise, y, 1, t=450), step(denoise, y, 2, t=400)]
        exact = denoiser(networks)(y, 450)
    finally:
        handle.remove()
    below, skips = (lambda one: one["hidden_states"]), (lambda one: one["res_hidden_states_tuple"])
    assert torch.equal(below(inputs[0]), below(inputs[1])) and torch.equal(below(inputs[1]), below(inputs[2]))
    assert not torch.equal(below(inputs[1]), below(inputs[3]))
    assert len(skips(inputs[1])) == len(skips(inputs[3])) == 2
    for kept, new in zip(skips(inputs[1]), skips(inputs[3]), strict=True):
        torch.testing.assert_close(kept, new)  # its own residual of this step among them
    assert not torch.equal(found[1], found[0]) and not torch.allclose(found[1], exact, atol=1e-4)


def test_another_number_of_rows_is_computed_anew(networks):
    x = draw(3, 4, 8, 8, seed=3)
    concat = told(networks).concat
    source = SourceStream(latents=lambda _: draw(3, 4, 8, 8, seed=6), text=draw(1, 7, 16, seed=7), steps=1, concat=concat)
    denoise = denoiser(networks, deep_every=4, control_every=4, source=source)
    with counted(networks) as calls:
        step(denoise, x, 0)
        after = step(denoise, x, 1)  # without the source's stream
        assert calls["mid"] == calls["control"] == 2
        step(denoise, x, 2)
        assert calls["mid"] == calls["control"] == 2
    assert torch.equal(after, denoiser(networks)(x, 500))


def test_hooks_are_called_in_the_steps_that_compute_and_gone_afterwards(networks):
    x, seen, denoise = draw(3, 4, 8, 8, seed=3), [], denoiser(networks, deep_every=2)

    def attention(q, k, v, site, state):
        seen.append((state.step, site.stage, site.index))

    def broken(*_):
        raise ValueError("broken")

    before = dict(networks.unet.attn_processors)
    with hooked(networks.unet, Hooks(attention=attention)):
        found = [step(denoise, x, number) for number in range(2)]
    first, second = ({(stage, index) for number, stage, index in seen if number == at} for at in range(2))
    assert ("mid", 0) in first and ("up", 1) in first and second == {("down", 0), ("up", 3)}
    with pytest.raises(ValueError, match="broken"), hooked(networks.unet, Hooks(attention=broken)):
        step(denoise, x, 2)
    count = len(seen)
    again = [step(denoise, x, number) for number in range(2)]
    assert len(seen) == count and all(torch.equal(*pair) for pair in zip(found, again, strict=True))
    assert dict(networks.unet.attn_processors) == before


def test_feature_hooks_reach_the_deep_blocks_and_the_last(networks):
    x, seen, denoise = draw(3, 4, 8, 8, seed=3), [], denoiser(networks, deep_every=2)

    def features(h, site, state):
        seen.append((state.step, site.index))
        return h * 0.5

    with hooked(networks.unet, Hooks(features=features)):
        found = [step(denoise, x, number) for number in range(2)]
        exact = denoiser(networks)(x, 500)
    assert [one for one in seen if one[0] == 1] == [(1, 3)] and {(0, 0), (0, 2), (0, 3)} <= set(seen)
    assert torch.equal(found[0], exact) and torch.allclose(found[1], exact, atol=1e-6)


def test_after_an_error_the_networks_are_as_they_were(networks):
    x, denoise = draw(3, 4, 8, 8, seed=3), denoiser(networks, deep_every=2, control_every=2)
    whole = denoiser(networks)(x, 500)
    unet = networks.unet
    hooks = [len(one._forward_hooks) for one in unet.up_blocks]

    def fail(*_):
        raise ValueError("broken")

    for broken, number in ((unet.up_blocks[-2], 0), (unet.up_blocks[-1], 0), (unet.up_blocks[-1], 1)):
        step(denoise, x, 0) if number else None
        handle = broken.register_forward_pre_hook(fail)
        with pytest.raises(ValueError, match="broken"):
            step(denoise, x, number)
        handle.remove()
        assert torch.equal(denoiser(networks)(x, 500), whole)
        assert torch.equal(step(denoise, x, 0), whole)
    assert [len(one._forward_hooks) for one in unet.up_blocks] == hooks == [0, 0, 0, 0]
    assert form(unet, "whole")._seen == []  # nothing of the calls that failed stays in memory


def test_a_walk_that_begins_again_finds_nothing_old(networks):
    x, times = draw(3, 4, 8, 8, seed=3), noise_levels(4, schedule=SCHEDULE)
    denoise = denoiser(networks, deep_every=8, control_every=8, guidance=1.0)
    counts = []
    with counted(networks) as calls:
        for work in (sample, sample, invert, invert, sample):
            before = calls["mid"], calls["control"]
            work(denoise, x, times, **({"run": Run()} if work is sample else {}))
            counts.append((calls["mid"] - before[0], calls["control"] - before[1]))
        assert counts == [(1, 1)] * 5
        for _ in range(2):  # of two steps the first follows on the second of the walk before, backwards
            sample(denoise, x, noise_levels(2, schedule=SCHEDULE), run=Run())
        assert calls["mid"] == calls["control"] == 7
        invert(denoise, x, times, refine=1)
        assert calls["mid"] == 7 + 2 + 3  # the last round of a step looks at latents that were just found: never at what is kept


def test_frames_are_kept_apart():
    kept = Kept()
    for frames in ((0, 1), (2, 3)):
        kept.put(State(step=4, frames=frames), "shape", frames)
    assert kept.get(State(step=5, frames=(2, 3)), "shape", 2) == (2, 3)
    assert kept.get(State(step=5, frames=(0, 1)), "shape", 2) == (0, 1)
    assert kept.get(State(step=5, frames=(1, 2)), "shape", 2) is None
    assert kept.get(State(step=6, frames=(0, 1)), "shape", 2) is None
    kept.put(State(step=9, frames=(1, 2)), "shape", (1, 2))
    assert kept.get(State(step=10, frames=(1, 2)), "other shape", 3) is None
    assert len(kept._entries) == 1  # of the others nothing stays in memory


@pytest.mark.parametrize("wrong", [{"control_every": 0}, {"deep_every": -1}, {"control_until": 1.5}])
def test_what_is_no_shortcut_is_refused(wrong):
    for asked in (Shortcuts, Pace, FlowVid):
        with pytest.raises(ConfigError, match="no shortcuts"):
            asked(**wrong)


def test_a_network_of_one_block_has_no_deep_part():
    networks = torch.nn.Module()
    networks.up_blocks = torch.nn.ModuleList([torch.nn.Identity()])
    for part in ("whole", "shallow"):
        with pytest.raises(ConfigError, match="one block"):
            form(networks, part)


# ---------------------------------------------------------------------------------------------------------------- the machine


@pytest.fixture(scope="module")
def video_model(tmp_path_factory):
    return LatentDiffusion(weights=str(save_video_model(tmp_path_factory.mktemp("tiny") / "video")))


def test_channels_last_is_a_layout_and_nothing_else(video_model):
    last = replace(video_model, channels_last=True)
    weight, plain = (one.unet().conv_in.weight for one in (last, video_model))
    assert weight.is_contiguous(memory_format=torch.channels_last) and torch.equal(weight, plain)
    assert plain.is_contiguous()
    text, concat, x = last.embed(Edit(prompt="a dog")), draw(3, 9, 8, 8, seed=1), draw(3, 4, 8, 8, seed=2)
    found, exact = (one.denoiser(text, concat=concat)(x, 500) for one in (last, video_model))
    torch.testing.assert_close(found, exact, atol=1e-4, rtol=0)


def test_what_cannot_be_compiled_is_refused(video_model):
    text = video_model.embed(Edit(prompt="a dog"))
    with pytest.raises(ConfigError, match="CUDA graphs do not run on cpu"):
        replace(video_model, compiled="graphs").denoiser(text, concat=draw(3, 9, 8, 8))
    with pytest.raises(ConfigError, match="Compiled networks cannot rest on the CPU"):
        replace(video_model, compiled="compile", offload=True)
    with pytest.raises(ConfigError, match="compiled cannot be 'yes'"):
        replace(video_model, compiled="yes")


def through(backend, monkeypatch):
    """`torch.compile` by another backend."""
    real, made = torch.compile, []

    def compiled(module, **how):
        made.append(how)
        return real(module, backend=backend, dynamic=how["dynamic"])

    monkeypatch.setattr(torch, "compile", compiled)
    return made


def test_compiling_that_fails_says_what_to_do(monkeypatch):
    def backend(*_):
        raise OSError("no compiler here")

    made, network = through(backend, monkeypatch), torch.nn.Linear(2, 2)
    refused = pytest.raises(ConfigError, match=r"(?s)Compiling the network failed.*no compiler here.*compiled=none")
    with refused, compiling.compiling("compile"):
        form(network, compiled="compile")(torch.zeros(1, 2))
    assert made == [{"mode": "default", "dynamic": False}]
    assert isinstance(network(torch.zeros(1, 2)), torch.Tensor)  # itself it is as it was
    form(network, compiled="graphs")
    assert made[1]["mode"] == "reduce-overhead" and len(made) == 2
    assert form(network, compiled="graphs") is form(network, compiled="graphs")


def test_forms_do_not_keep_a_network_alive(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **_: torch.nn.Sequential(module))
    network = tiny_unet()
    held = weakref.ref(network)
    for part in ("network", "whole", "shallow"):
        form(network, part, "compile")
    assert len(compiling._FORMS[network]) == 3
    del network
    gc.collect()
    assert held() is None


@pytest.mark.slow  # a minute; traced, not made into machine code, which takes ten
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_compiled_networks_say_the_same(video_model, tmp_path, monkeypatch):
    graphs = []

    def counting(graph, inputs):
        graphs.append(len(graph.graph.nodes))
        return aot_eager(graph, inputs)

    aot_eager = torch._dynamo.lookup_backend("aot_eager")
    through(counting, monkeypatch)
    torch._dynamo.reset()
    unet = video_model.unet()
    control = save_controlnet(tmp_path / "control", tiny_unet("2"))
    plain = replace(video_model, controlnets=(str(control),))
    fast = replace(plain, compiled="compile")
    text, concat, x = plain.embed(Edit(prompt="a dog")), draw(3, 9, 8, 8, seed=1), draw(3, 4, 8, 8, seed=2)
    maps = [draw(3, 3, 64, 64, seed=4).sigmoid()]
    for more, counts in (({}, [2, 2, 2, 2]), ({"shortcuts": Shortcuts(deep_every=2)}, [3, 4, 4, 4])):
        made, found_graphs = [one.denoiser(text, maps, concat=concat, **more) for one in (fast, plain)], []
        for number, t in enumerate((500, 480, 460, 440)):
            found, exact = (step(one, x, number, t=t) for one in made)
            torch.testing.assert_close(found, exact, atol=1e-3, rtol=0)
            found_graphs.append(len(graphs))
        assert found_graphs == counts  # each form in one piece, and never anew for another time
    seen = []
    with hooked(unet, Hooks(attention=lambda *given: seen.append(given[3]))):
        found = fast.denoiser(text, maps, concat=concat)(x, 500)
    torch.testing.assert_close(found, plain.denoiser(text, maps, concat=concat)(x, 500), atol=1e-3, rtol=0)
    assert len(seen) == len([site for site in sites(unet) if site.kind == "attention"])
