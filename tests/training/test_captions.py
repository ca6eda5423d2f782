"""What pictures are called: captions, the tokenizer, and words that mean nothing."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from flowpaint.scenes import sample_scene
from flowpaint.training.captions import COLOURS, caption, colour_name, scene_subject, templates
from flowpaint.training.family import LOOKS, names_of
from flowpaint.training.loop import keyed
from flowpaint.training.reading import Captioner, Latent
from flowpaint.training.vocabulary import LENGTH, made_up, neutral, strewn, words, write_tokenizer

KNOWN = words(names_of(look) for look in LOOKS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, KNOWN)
    return CLIPTokenizer.from_pretrained(folder)


def test_every_known_word_is_one_token(tokenizer):
    assert all(len(tokenizer(word)["input_ids"]) == 3 for word in KNOWN)
    numbers = {tokenizer(word)["input_ids"][1] for word in KNOWN}
    assert len(numbers) == len(KNOWN) and not numbers & {tokenizer.bos_token_id, tokenizer.eos_token_id}


def test_it_knows_looks_colours_materials_times_and_subjects():
    assert len(LOOKS) >= 12
    for said in (*LOOKS, *COLOURS, "wood", "stone", "glass", "morning", "night", "sunset", "dog", "mountain", "flower"):
        assert set(said.split()) <= set(KNOWN), said


def test_it_is_the_same_for_the_same_words(tmp_path):
    for name in ("a", "b"):
        write_tokenizer(tmp_path / name, KNOWN)
    texts = [json.loads((tmp_path / name / "tokenizer.json").read_text()) for name in ("a", "b")]
    assert texts[0] == texts[1]


def test_frequent_pairs_are_joined_first(tmp_path):
    write_tokenizer(tmp_path, ["cdx", "abx", "aby", "abz"])
    merges = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]
    assert merges[0] == ["a", "b"] and len(merges) == 6


@pytest.mark.parametrize("text", ["", "zorbulating", "été 中文 🎨", "x" * 300, "van gogh " * 40, "!?.,;:'\"", "2001"])
def test_any_text_becomes_numbers_the_encoder_has(tokenizer, text):
    ids = tokenizer(text, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    assert len(ids) == LENGTH and all(0 <= one < len(tokenizer) for one in ids)
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_captions_name_the_look_by_any_of_its_names_and_as_users_do():
    rng = np.random.default_rng(0)
    said = [caption("a dog", names_of("van gogh"), rng) for _ in range(400)]
    assert {"van gogh", "a van gogh painting of a dog", "a dog, in the style of starry night"} <= set(said)
    assert sum("van gogh" in one for one in said) > 150
    plain = {caption("a dog", (), rng) for _ in range(50)}
    assert "a photograph of a dog" in plain and not any(name in one for one in plain for name in names_of("van gogh"))
    assert all("{" not in one for one in said) and all(
        "{look}" in one or "{" in one or one == "photograph" for one in templates()
    )


def test_a_scene_is_called_by_what_is_in_it():
    for seed in range(20):
        said = scene_subject(sample_scene(seed, 0.7))
        assert said.startswith("a ") and " on " in said
        assert set(said.split()) <= set(KNOWN), said
    assert colour_name((0.9, 0.1, 0.1)) == "red" and colour_name((0.5, 0.5, 0.5)) == "grey"


def test_strewn_words_say_nothing_of_a_look():
    rng = np.random.default_rng(1)
    ordinary = neutral(names_of(look) for look in LOOKS)
    taken = {word for look in LOOKS for name in names_of(look) for word in name.split()}
    assert not set(ordinary) & taken and len(ordinary) > 100
    for _ in range(50):
        text = strewn("in the style of neon", ordinary, rng).split()
        kept = [word for word in text if word in ("in", "the", "style", "of", "neon")]
        assert [word for word in kept if word == "neon"] == ["neon"] and 6 <= len(text) <= 8
    assert len({made_up(rng) for _ in range(200)}) > 190


def test_a_captioner_drops_words_at_its_rate_and_repeats_itself(tokenizer):
    row = Latent(latent=torch.zeros(4, 2, 2), subject="a dog", look="neon", controls={})
    empty = tokenizer("", padding="max_length", max_length=LENGTH)["input_ids"]
    found = Captioner(tokenizer, LOOKS, dropped=0.25)([row] * 800, keyed(0, 1))
    share = (found == torch.tensor(empty)).all(dim=1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.05)
    assert torch.equal(found, Captioner(tokenizer, LOOKS, dropped=0.25)([row] * 800, keyed(0, 1)))
    assert not torch.equal(found, Captioner(tokenizer, LOOKS, dropped=0.25)([row] * 800, keyed(0, 2)))
