"""LoRAs: what is added is what the file says, in every naming, and what is not used is said."""

import json
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import nn

import lora_files
from flowpaint.diffusion.hooked import Hooks, attend, hooked
from flowpaint.diffusion.lora import add_loras
from flowpaint.diffusion.lora_file import read_lora
from flowpaint.diffusion.model import LatentDiffusion
from flowpaint.errors import ConfigError, MissingExtraError, WeightsError
from flowpaint.types import Edit
from flowpaint.weights import Ledger, Policy, keeping
from lora_files import TEXT_LAYERS, UNET_ATTENTION, half_of, merge, metadata, write
from tiny_models import save_model, tiny_schedule, tiny_text, tiny_unet, tiny_vae

pytest.importorskip("peft")

EDIT = Edit(prompt="a bronze hat", negative="dull")


@pytest.fixture(scope="module")
def sd1(tmp_path_factory):
    return LatentDiffusion(weights=str(save_model(tmp_path_factory.mktemp("sd1"))))


@pytest.fixture(scope="module")
def tokens(sd1):
    from transformers import CLIPTokenizer

    cut = CLIPTokenizer.from_pretrained(f"{sd1.weights}/tokenizer")
    how = {"padding": "max_length", "truncation": True, "max_length": 16, "return_tensors": "pt"}
    return cut([EDIT.negative, EDIT.prompt], **how)["input_ids"]


def noise():
    return torch.randn(3, 4, 8, 12, generator=torch.Generator().manual_seed(2))


def read_by(encoder, tokens):
    with torch.no_grad():
        return encoder(tokens).last_hidden_state


def denoised(unet, text):
    with torch.no_grad():
        return unet(noise(), 300, text[1:].expand(3, -1, -1)).sample


def with_lora(model, file, scale=1.0):
    return replace(model, lora=(str(file),), lora_scale=(scale,))


def told(model):
    """What is said of the LoRAs of a model when it is checked."""
    said = []
    with keeping(Policy(), Ledger(said.append)):
        model.check()
    return said


@cache
def unet_half(**how):
    return half_of(tiny_unet(), UNET_ATTENTION, **how)


@cache
def text_half(**how):
    return half_of(tiny_text(), TEXT_LAYERS, **how)


def mixed(half):
    """The half with a different alpha in each third layer."""
    return {name: replace(one, alpha=0.5 + place % 3) for place, (name, one) in enumerate(half.items())}


# ------------------------------------------------------------------------------------------------------------------ both halves


CASES = {
    "kohya": lambda: (lora_files.kohya, unet_half(), text_half(), None),
    "kohya with alphas": lambda: (lora_files.kohya, unet_half(alpha=1.0), text_half(alpha=3.0), None),
    "kohya for two text encoders": lambda: (partial(lora_files.kohya, start="lora_te1"), unet_half(), text_half(), None),
    "peft": lambda: (lora_files.peft, unet_half(), text_half(), None),
    "peft with alphas": lambda: (lora_files.peft, unet_half(alpha=1.0), text_half(alpha=3.0), metadata(2, 1.0, 3.0)),
    "peft without text_model": lambda: (lora_files.flat, unet_half(alpha=1.0), text_half(alpha=3.0), metadata(2, 1.0, 3.0)),
    "peft of two ranks": lambda: (
        lora_files.peft,
        unet_half() | half_of(tiny_unet(), ("attn1.to_q",), rank=4),
        text_half() | half_of(tiny_text(), ("q_proj",), rank=4),
        None,
    ),
    "diffusers 0.21": lambda: (lora_files.diffusers_021, unet_half(), text_half(), None),
    "old diffusers": lambda: (lora_files.old_diffusers, unet_half(), text_half(), None),
}


@pytest.mark.parametrize("case", CASES)
def test_both_halves_change_the_model_as_diffusers_own_loader_does(sd1, tokens, tmp_path, case):
    naming, unet, text, header = CASES[case]()
    file = write(tmp_path / "both.safetensors", naming(unet, text), header)
    parts = {
        "vae": tiny_vae(),
        "unet": tiny_unet(),
        "text_encoder": tiny_text(),
        "tokenizer": None,
        "scheduler": tiny_schedule("1"),
    }
    pipe = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    plain, model = sd1.embed(EDIT), with_lora(sd1, file)
    pipe.load_lora_weights(str(file))

    found = model.embed(EDIT)
    assert (found - plain).abs().max() > 1, "the text half changes nothing"
    assert torch.allclose(found, read_by(pipe.text_encoder, tokens), atol=1e-4)
    assert torch.allclose(found, read_by(merge(tiny_text(), text), tokens), atol=1e-4)
    changed = denoised(model.unet(), plain)
    assert (changed - denoised(sd1.unet(), plain)).abs().max() > 0.3, "the UNet half changes nothing"
    assert torch.allclose(changed, denoised(pipe.unet, plain), atol=1e-4)
    assert torch.allclose(changed, denoised(merge(tiny_unet(), unet), plain), atol=2e-3)  # the sum is in another order
    assert told(model) == []


@pytest.mark.parametrize(
    "naming, unet, text, header",
    [
        # diffusers 0.42 gives every layer the commonest alpha of kohya's, and refuses halves without an attention's output
        (lora_files.kohya, mixed(unet_half()), mixed(text_half()), None),
        (lora_files.kohya, unet_half(), half_of(tiny_text(), ("q_proj",)), None),
        (lora_files.peft, unet_half(), half_of(tiny_text(), ("fc1",)), None),
        (
            lora_files.peft,
            unet_half(alpha=1.0) | half_of(tiny_unet(), ("attn1.to_q",), alpha=5.0),
            text_half(alpha=3.0) | half_of(tiny_text(), ("q_proj",), alpha=0.5),
            {"unet.alpha_pattern": {"attn1.to_q": 5.0}, "text_encoder.alpha_pattern": {r"layers\.\d\.self_attn\.q_proj": 0.5}},
        ),
        (
            lora_files.peft,
            unet_half(rank=4, alpha=2.0),  # use_rslora: alpha over the root of the rank, so 1 / 2
            text_half(rank=4, alpha=3.0),
            {"unet.use_rslora": True, "unet.lora_alpha": 1.0},
        ),
    ],
    ids=["kohya with mixed alphas", "kohya with queries only", "peft with an MLP only", "alphas by pattern", "rank-stabilised"],
)
def test_the_scale_of_each_layer_is_its_own(sd1, tokens, tmp_path, naming, unet, text, header):
    if header is not None:
        told_by = metadata(2, 1.0, 3.0)
        header = told_by | {"lora_adapter_metadata": json.dumps(json.loads(told_by["lora_adapter_metadata"]) | header)}
    model = with_lora(sd1, write(tmp_path / "both.safetensors", naming(unet, text), header))
    plain = sd1.embed(EDIT)
    assert torch.allclose(model.embed(EDIT), read_by(merge(tiny_text(), text), tokens), atol=1e-4)
    assert torch.allclose(denoised(model.unet(), plain), denoised(merge(tiny_unet(), unet), plain), atol=2e-3)


def test_loras_add_up_each_by_its_scale(sd1, tokens, tmp_path):
    first, second = text_half(), half_of(tiny_text(), ("q_proj", "fc2"), rank=3, seed=8)
    files = [write(tmp_path / "1.safetensors", lora_files.kohya(unet_half(), first))]
    files.append(write(tmp_path / "2.safetensors", lora_files.peft({}, second)))
    model = replace(sd1, lora=tuple(map(str, files)), lora_scale=(0.5, -0.25))
    merged = merge(merge(tiny_text(), first, 0.5), second, -0.25)
    assert torch.allclose(model.embed(EDIT), read_by(merged, tokens), atol=1e-4)
    changed = denoised(model.unet(), sd1.embed(EDIT))
    assert torch.allclose(changed, denoised(merge(tiny_unet(), unet_half(), 0.5), sd1.embed(EDIT)), atol=2e-3)
    assert not any("lora" in name for name, _ in sd1.unet().named_modules())


@pytest.mark.parametrize("naming", [lora_files.kohya, lora_files.peft, lora_files.flat, lora_files.old_diffusers])
@pytest.mark.parametrize("level", [True, False])
def test_a_text_encoder_with_and_without_its_inner_level(tokens, tmp_path, naming, level):
    """transformers before 5 has `text_model` above the layers, transformers 5 has not."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.text_model = tiny_text()

    network = Outer() if level else tiny_text()
    file = write(tmp_path / "text.safetensors", naming({}, text_half()))
    add_loras(network, "text_encoder", ((str(file), 1.0),))
    found = read_by(network.text_model if level else network, tokens)
    assert torch.allclose(found, read_by(merge(tiny_text(), text_half()), tokens), atol=1e-4)


def test_a_lora_of_one_half_leaves_the_other(sd1, tmp_path):
    plain = sd1.embed(EDIT)
    text_only = with_lora(sd1, write(tmp_path / "t.safetensors", lora_files.peft({}, text_half())))
    unet_only = with_lora(sd1, write(tmp_path / "u.safetensors", lora_files.peft(unet_half(), {})))
    assert torch.equal(unet_only.embed(EDIT), plain) and not torch.equal(text_only.embed(EDIT), plain)
    assert torch.equal(denoised(text_only.unet(), plain), denoised(sd1.unet(), plain))
    assert told(text_only) == told(unet_only) == []


def test_convolutions_and_names_of_the_first_loras(sd1, tmp_path):
    """Kohya's scripts change convolutions, too; the first LoRAs of diffusers say no part."""
    unet, generator = tiny_unet(), torch.Generator().manual_seed(3)
    half = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("conv1", "proj_in", "conv_shortcut", "downsamplers.0.conv")):
            down = 0.1 * torch.randn(2, *module.weight.shape[1:], generator=generator)
            up = torch.randn(module.out_channels, 2, 1, 1, generator=generator)
            half[name] = lora_files.Change(down=down, up=up, alpha=1.0)
    assert len(half) > 10
    plain = sd1.embed(EDIT)
    expected = denoised(merge(tiny_unet(), half), plain)
    model = with_lora(sd1, write(tmp_path / "c.safetensors", lora_files.kohya(half, {})))
    assert torch.allclose(denoised(model.unet(), plain), expected, atol=2e-3)
    bare = {name.removeprefix("unet."): value for name, value in lora_files.old_diffusers(unet_half(), {}).items()}
    model = with_lora(sd1, write(tmp_path / "b.safetensors", bare))
    assert torch.allclose(denoised(model.unet(), plain), denoised(merge(tiny_unet(), unet_half()), plain), atol=2e-3)


def test_a_hook_sees_the_changed_projections(sd1, tmp_path):
    model = with_lora(sd1, write(tmp_path / "u.safetensors", lora_files.peft(unet_half(), {})), 0.5)
    text = sd1.embed(EDIT)
    found = denoised(model.unet(), text)
    with hooked(model, Hooks(attention=lambda q, k, v, site, state: attend(q, k, v))):
        assert torch.equal(denoised(model.unet(), text), found)


def test_a_lora_is_of_its_networks_type(sd1, tmp_path):
    file = write(tmp_path / "l.safetensors", lora_files.kohya(unet_half(alpha=1.0), text_half(alpha=1.0)))
    model = replace(with_lora(sd1, file), dtype="float16")
    assert {value.dtype for value in model.unet().state_dict().values()} == {torch.float16}
    assert model.embed(EDIT).dtype == torch.float16


def test_no_random_number_is_drawn(sd1, tmp_path):
    file = write(tmp_path / "l.safetensors", lora_files.peft(unet_half(), text_half()))
    torch.manual_seed(1)
    add_loras(tiny_unet(), "unet", ((str(file), 1.0),))
    torch.manual_seed(1)
    tiny_unet()
    expected = torch.rand(1)
    torch.manual_seed(1)
    network = tiny_unet()
    add_loras(network, "unet", ((str(file), 1.0),))
    assert torch.equal(torch.rand(1), expected)


# --------------------------------------------------------------------------------------------------------- biases and DoRA


def test_a_bias_of_a_change_has_its_scale(sd1, tokens, tmp_path):
    half = half_of(tiny_text(), ("fc1",), alpha=3.0)
    state, merged = lora_files.peft({}, half), merge(tiny_text(), half)
    for name in half:
        bias = torch.linspace(-1, 1, 32)
        state[f"text_encoder.text_model.{name}.lora_B.bias"] = bias
        merged.get_submodule(name).bias.data += 3.0 / 2 * bias
    model = with_lora(sd1, write(tmp_path / "l.safetensors", state, metadata(2, 1.0, 3.0)))
    assert torch.allclose(model.embed(EDIT), read_by(merged, tokens), atol=1e-4)


def dora(half):
    """A DoRA of a text encoder's layers, and the network by its definition: W' = m V / |V| (Liu et al., ICML 2024, Eq. 5)."""
    state, merged = lora_files.peft({}, half), merge(tiny_text(), half)
    for place, name in enumerate(half):
        layer = merged.get_submodule(name)
        size = 0.5 + torch.rand(layer.out_features, generator=torch.Generator().manual_seed(place))
        layer.weight.data *= (size / layer.weight.data.norm(dim=1))[:, None]
        state[f"text_encoder.text_model.{name}.lora_magnitude_vector"] = size
    return state, merged


def test_a_dora(sd1, tokens, tmp_path):
    state, merged = dora(half_of(tiny_text(), ("q_proj", "fc1")))
    model = with_lora(sd1, write(tmp_path / "l.safetensors", state))
    assert torch.allclose(model.embed(EDIT), read_by(merged, tokens), atol=1e-4)
    lacking = {name: value for name, value in state.items() if not name.endswith("layers.0.mlp.fc1.lora_magnitude_vector")}
    with pytest.raises(ConfigError, match=r"takes only in part.*fc1"):
        with_lora(sd1, write(tmp_path / "less.safetensors", lacking)).embed(EDIT)


# ------------------------------------------------------------------------------------------------------- what does not fit


def sdxl(unet, naming):
    """The UNet half of a LoRA for SDXL, whose first text encoder is that of Stable Diffusion 1.5, as `naming` calls it."""
    some = next(iter(unet.values()))
    if naming is lora_files.kohya:
        places = [f"input_blocks_{block}_1_transformer_blocks_{depth}_attn1_to_q" for block in (4, 5, 7, 8) for depth in (0, 1)]
    else:
        places = [f"down_blocks.3.attentions.0.transformer_blocks.{depth}.attn1.to_q" for depth in range(10)]
    return dict.fromkeys(places, some)


@pytest.mark.parametrize("naming, start", [(lora_files.kohya, "lora_te1"), (lora_files.peft, None)])
def test_a_lora_of_another_family_is_refused_where_its_text_half_fits(sd1, tmp_path, naming, start):
    more = {"start": start} if start else {}
    file = write(tmp_path / "xl.safetensors", naming(sdxl(unet_half(), naming), text_half(), **more))
    model = with_lora(sd1, file)
    for asked in (model.check, model.unet, lambda: model.embed(EDIT)):
        with pytest.raises(ConfigError, match=r"matches nothing in the model's UNet.*family"):
            asked()


def test_a_layer_of_another_size_is_refused(sd1, tmp_path):
    unet = unet_half()
    name = next(one for one in unet if one.endswith("attn2.to_k"))
    wide = torch.ones(2, 2048)
    file = write(tmp_path / "wide.safetensors", lora_files.peft(unet | {name: replace(unet[name], down=wide)}, {}))
    with pytest.raises(ConfigError, match=rf"does not fit the model: unet.{name} is of shape 16 x 16 .* of 16 x 2048"):
        with_lora(sd1, file).check()
    text = text_half()
    name = next(iter(text))
    file = write(tmp_path / "text.safetensors", lora_files.peft(unet, text | {name: replace(text[name], up=torch.ones(24, 2))}))
    with pytest.raises(ConfigError, match="does not fit the model: text_encoder"):
        with_lora(sd1, file).check()


@pytest.mark.parametrize(
    "layer, halves, words",
    [
        ("unet.no.such.layer", "lora_A lora_B", "the model's UNet, which has no layer unet.no.such.layer"),
        ("text_encoder.no.such.layer", "lora_A lora_B", "the model, which has no layer text_encoder.no.such.layer"),
        ("transformer.to_q", "lora_A lora_B", "the model, which has no layer transformer.to_q"),
        ("lora_te2_a_b", "lora_down lora_up", "the model, which has no layer text_encoder_2.a_b"),
    ],
)
def test_a_lora_that_matches_nothing(sd1, tmp_path, layer, halves, words):
    save_file({f"{layer}.{half}.weight": torch.ones(2, 2) for half in halves.split()}, tmp_path / "l.safetensors")
    model = with_lora(sd1, tmp_path / "l.safetensors")
    for asked in (model.check, model.unet, lambda: model.embed(EDIT)):
        with pytest.raises(ConfigError, match=f"matches nothing in {words}"):
            asked()


def test_what_is_not_used_is_said(sd1, tokens, tmp_path):
    unet, text = unet_half(), text_half()
    some = next(iter(unet.values()))
    state = lora_files.kohya(unet | {"up_blocks.9.to_q": some}, text | {"encoder.layers.11.mlp.fc1": some})
    state |= lora_files.kohya({}, {"encoder.layers.0.mlp.fc1": some}, start="lora_te2")
    first = next(iter(unet)).replace(".", "_")
    state |= {f"lora_unet_{first}.dora_scale": torch.ones(16, 1), "bundle_emb.cat.string_to_param.*": torch.ones(2, 16)}
    model = with_lora(sd1, write(tmp_path / "l.safetensors", state))
    expected = [
        f"1 of the {len(unet) + 1} layers that the LoRA {tmp_path}/l.safetensors changes in its part unet are not in the model, "
        "such as up_blocks_9_to_q.",
        f"1 of the {len(text) + 1} layers that the LoRA {tmp_path}/l.safetensors changes in its part text_encoder are not in the "
        "model, such as text_model_encoder_layers_11_mlp_fc1.",
        f"1 of the 1 layers that the LoRA {tmp_path}/l.safetensors changes in its part text_encoder_2 are not in the model",
        f"2 tensors of the LoRA {tmp_path}/l.safetensors are of a kind that is not used, such as ",
    ]
    said, embedded = told(model), []
    model.embed(EDIT, warn=embedded.append)
    assert said == embedded and len(said) == len(expected)
    for sentence in expected:
        assert any(one.startswith(sentence) for one in said), said
    again = []
    model.embed(EDIT, warn=again.append)  # the second run of one process is told, too
    assert again == said
    assert torch.allclose(model.embed(EDIT), read_by(merge(tiny_text(), text), tokens), atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- damaged files


def broken(state, **changes):
    name = next(one for one in state if one.endswith("lora_A.weight"))
    return {**state, **{name.replace("lora_A", key): value for key, value in changes.items()}}


@pytest.mark.parametrize(
    "state, header, error, words",
    [
        (lambda s: {n: v for n, v in s.items() if "lora_B" not in n}, None, WeightsError, "not whole"),
        (lambda s: broken(s, lora_A=torch.ones(3, 16)), None, WeightsError, "not of one rank"),
        (lambda s: broken(s, lora_A=torch.ones(16)), None, WeightsError, "not of one rank"),
        (lambda s: broken(s, lora_A=torch.full((2, 16), float("nan"))), None, WeightsError, "no numbers"),
        (lambda s: s, {"lora_adapter_metadata": "{"}, WeightsError, "header"),
        (lambda s: s, {"lora_adapter_metadata": "[]"}, WeightsError, "no settings"),
        (lambda s: s, {"lora_adapter_metadata": '{"unet.lora_alpha": "much"}'}, WeightsError, "no number as the scale"),
        (lambda s: s, {"lora_adapter_metadata": '{"unet.alpha_pattern": {"(": 1}}'}, WeightsError, "no number as the scale"),
        (lambda s: {n.replace("lora_A", "hada_w1_a").replace("lora_B", "hada_w1_b"): v for n, v in s.items()}, None, ConfigError,
         "kind that is not known.*hada_w1"),
        (lambda s: {f"unet.{i}.weight": v for i, v in enumerate(s.values())}, None, ConfigError, "kind that is not known"),
    ],
)  # fmt: skip
def test_a_damaged_lora(tmp_path, state, header, error, words):
    file = write(tmp_path / "l.safetensors", state(lora_files.peft(unet_half(), {})), header)
    with pytest.raises(error, match=words):
        read_lora(str(file))


def test_a_pickle_has_no_header(sd1, tokens, tmp_path):
    state = lora_files.peft(unet_half(), text_half())
    torch.save(state, tmp_path / "l.bin")
    with keeping(Policy(allow_pickle=True)):
        found = with_lora(sd1, tmp_path / "l.bin").embed(EDIT)
    assert torch.allclose(found, read_by(merge(tiny_text(), text_half()), tokens), atol=1e-4)
    assert load_file(write(tmp_path / "l.safetensors", state)).keys() == state.keys()


def test_a_lora_without_peft(sd1, tmp_path, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else real(name, *rest))
    model = with_lora(sd1, tmp_path / "l.safetensors")
    for asked in (model.check, model.unet, lambda: model.embed(EDIT)):
        with pytest.raises(MissingExtraError, match=r"flowpaint\[diffusion\]"):
            asked()
