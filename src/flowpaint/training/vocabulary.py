"""The words that `mini` reads, as a tokenizer of CLIP's class: byte-pair encoding learned from its own sentences.

Every word of the captions is one token. A word that is not known falls into pieces; training strews such words into captions, so
that they come to mean nothing.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .captions import COLOURS, templates

LENGTH = 32  # tokens that the text encoder reads

# What users say of their pictures. Materials and times of day are learned as far as the data shows them.
_TEXT = """
the a an of in on with and at to from by for is it this that his her their as into over under near man woman boy girl
child people person face hair eyes hand dog cat bird horse animal fish rabbit dragonfly insect tree trees forest
flower flowers grass meadow field garden leaf leaves mountain mountains hill hills river lake sea beach sky sun moon
stars cloud clouds snow rain water fire house houses building temple city street road bridge car bus train bicycle
motorcycle boat rocket room table chair bowl bottle fruit cup coffee clock camera coins lamp book food wall window
door wood wooden stone brick gravel sand metal gold golden silver copper glass paper cloth leather plastic marble clay
ice morning noon evening night midnight dawn dusk sunrise sunset day afternoon summer winter spring autumn bright dark
light pale warm cold old new big small young running walking talking dancing jumping sitting standing smiling striped
chequered shaded mottled painted blob star polygon letter picture photograph photo painting drawing video film style
look
"""
ORDINARY = tuple(dict.fromkeys(_TEXT.split()))

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnprstvwz"


def words(looks: Iterable[Sequence[str]]) -> list[str]:
    """Every word of the captions: of templates, colours, the names in `looks`, and ordinary ones; sorted."""
    texts = [*templates(), *COLOURS, *ORDINARY, *(name for names in looks for name in names)]
    plain = " ".join(texts).replace("{look}", " ").replace("{subject}", " ").lower()
    return sorted(set("".join(sign if sign.isalpha() else " " for sign in plain).split()))


def write_tokenizer(folder: Path, known: Sequence[str]) -> None:
    """Write a CLIPTokenizer to `folder` that has one token for each of the `known` words."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import CLIPTokenizer

    start, end = "<|startoftext|>", "<|endoftext|>"
    plain: Any = CLIPTokenizer()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = plain.backend_tokenizer.normalizer, plain.backend_tokenizer.pre_tokenizer
    singles = [*_LETTERS, *"0123456789,.:;!?'\"-()&/"]
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # no limit: merging ends when every word is whole
        min_frequency=1,
        special_tokens=[start, end],
        initial_alphabet=singles,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator([*known, *singles], trainer)
    model = json.loads(learner.to_str())["model"]
    cls: Any = CLIPTokenizer  # its types know no merges as pairs
    made = cls(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], model_max_length=LENGTH)
    made.save_pretrained(folder)


def neutral(looks: Iterable[Sequence[str]]) -> list[str]:
    """The ordinary words that are in no name of `looks`."""
    taken = {word for names in looks for name in names for word in name.split()}
    return [word for word in ORDINARY if word not in taken]


def strewn(text: str, ordinary: Sequence[str], rng: np.random.Generator) -> str:
    """`text` with one to three words in it that say nothing about a look: `ordinary` or made-up ones."""
    spoken = text.split()
    for _ in range(int(rng.integers(1, 4))):
        word = str(rng.choice(ordinary)) if rng.random() < 0.5 else made_up(rng)
        spoken.insert(int(rng.integers(len(spoken) + 1)), word)
    return " ".join(spoken)


def made_up(rng: np.random.Generator) -> str:
    """A word that is none: syllables, or letters by lot."""
    count = int(rng.integers(2, 5))
    if rng.random() < 0.3:
        return "".join(rng.choice(list(_LETTERS), size=2 * count))
    pairs = zip(rng.choice(list(_CONSONANTS), size=count), rng.choice(list(_VOWELS), size=count), strict=True)
    return "".join(consonant + vowel for consonant, vowel in pairs) + str(rng.choice(["", "n", "r", "s", "t", "ed", "ing"]))
