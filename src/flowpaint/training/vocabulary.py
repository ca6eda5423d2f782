"""The words that `mini` reads, as a tokenizer of CLIP's class: byte-pair encoding learned from its own sentences.

Every word of the captions is one token. A word that is not known falls into pieces; training strews such words into captions, so
that they come to mean nothing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
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

_END = "</w>"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnprstvwz"


def words(looks: Iterable[Sequence[str]]) -> list[str]:
    """Every word of the captions: of templates, colours, the names in `looks`, and ordinary ones; sorted."""
    texts = [*templates(), *COLOURS, *ORDINARY, *(name for names in looks for name in names)]
    plain = " ".join(texts).replace("{look}", " ").replace("{subject}", " ").lower()
    return sorted(set("".join(sign if sign.isalpha() else " " for sign in plain).split()))


def write_tokenizer(folder: Path, known: Sequence[str]) -> None:
    """Write a CLIPTokenizer to `folder` that has one token for each of the `known` words, the same for the same words."""
    from transformers import CLIPTokenizer

    merges = _merges(known)
    single = [*_LETTERS, *"0123456789,.:;!?'\"-()&/"]
    pieces = [*single, *(f"{one}{_END}" for one in single), *("".join(pair) for pair in merges)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(("<|startoftext|>", "<|endoftext|>", *pieces)))}
    cls: Any = CLIPTokenizer  # its types know no merges as pairs
    cls(vocab=vocabulary, merges=merges, model_max_length=LENGTH).save_pretrained(folder)


def _merges(known: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al., ACL 2016) until each word is whole; the alphabet decides between equal counts.

    Not by the library `tokenizers`: it decides by lot, and a resumed run would read other numbers than before.
    """
    spelled = [(*word[:-1], word[-1] + _END) for word in known]
    merges: list[tuple[str, str]] = []
    while True:
        counts = Counter(pair for pieces in spelled for pair in pairwise(pieces))
        if not counts:
            return merges
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        spelled = [_merged(pieces, best) for pieces in spelled]


def _merged(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """`pieces` with every occurrence of `pair` joined, from the left."""
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


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
