"""`choose`: a user's words to looks, by a rule that can be read, checked and argued with.

1. A name, an alias or a known phrase, whole: that look. A list of them with weights, `van gogh:0.6, pencil:0.4`: a blend.
2. Free words: small words and words like "style" or "video" count for nothing. What is left is the *claim*. A look scores the
   share of the claim that its own phrases explain, each phrase present as a whole. The best look wins if it explains four
   fifths of the claim, all of it after an editing verb ("make", "turn", "add"), and leads the second by a margin.
3. "A charcoal drawing of ..." may go on with what the video shows; the answer says that those words were not used.
4. Everything else is refused, and every sentence with "remove", "put", "replace", "not" and their like.
"""

import difflib
import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Literal

from ...errors import ConfigError, InputError
from .entry import Look
from .grades import Grade
from .looks import LOOKS

_THRESHOLD, _MARGIN = 0.8, 0.15
_TYPO, _TYPO_LENGTH = 0.87, 6  # shorter words turn into each other: forest - frost, cosmic - comic, beach - bleach


def _folded(text: str) -> tuple[str, ...]:
    """The words of `text` in one spelling: case, accents, plurals, -ing, -ed, -ish and American endings folded away."""
    plain = unicodedata.normalize("NFKD", text).casefold().replace("&", " and ")
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return tuple(_stem(word) for word in re.findall(r"[^\W_]+", plain))


def _stem(word: str) -> str:
    word = word.replace("color", "colour").replace("gray", "grey")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")):
        word = word[:-1]
    for ending in ("ing", "ish", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


_SMALL = frozenset(
    _folded(
        "a an the and or with in at of to into as like this that it its s is be by my please just can could you i want would "
        "some more very really so for kind sort type from"
    )
)
_MEDIUM = frozenset(  # they say that a look is meant, not which
    _folded(
        "style look filter effect video clip film movie footage picture image photo photograph scene frame everything whole "
        "entire painting drawing art artwork version grade grading tone tint mood vibe theme aesthetic feel shot thing inspired "
        "render portrait"
    )
)
_VERBS = frozenset(
    _folded("make turn convert transform change give apply add use recreate restyle stylize stylise set show do go have")
)
_PRONOUNS = frozenset(_folded("him her them he she me us everyone everybody"))
_REFUSED = frozenset(
    _folded(
        "remove delete erase replace swap put insert move blur sharpen upscale crop cut rotate wear hide fix clean next beside "
        "behind no not without never except only"
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The looks that were taken, with weights, how they were matched, and a sentence that tells the user."""

    looks: tuple[tuple[str, float], ...]
    matched: Literal["name", "blend", "words"]
    text: str


def choose(words: str) -> Choice:
    """The looks that `words` mean. Raises `InputError` for empty words, `ConfigError` with the three nearest where none fits."""
    if not words.strip():
        raise InputError("The prompt is empty. Name a look; `flowpaint looks` lists them.")
    pieces = [piece.strip() for piece in re.split(r"[,;+]", words) if piece.strip()]
    if any(_weight(piece) is not None for piece in pieces):
        return _blend([(_weight(piece), piece.rpartition(":")[0]) for piece in pieces], words)
    whole = _called(words)
    if whole is not None:
        return _taken(whole, "name")
    if len(pieces) > 1 and all(_called(piece) for piece in pieces):
        return _blend([(1.0, piece) for piece in pieces], words)
    return _matched(words)


# ----------------------------------------------------------------------------------------------------------------- names


@cache
def _phrases() -> dict[tuple[str, ...], Look]:
    """Every folded phrase with its look; names come before aliases, aliases before phrases."""
    found: dict[tuple[str, ...], Look] = {}
    for said in (lambda look: (look.name,), lambda look: look.aliases, lambda look: look.phrases):
        for look in LOOKS:
            for phrase in said(look):
                found.setdefault(_folded(phrase), look)
    return found


def _called(text: str) -> Look | None:
    return _phrases().get(_folded(text))


def _weight(piece: str) -> float | None:
    """The number behind the last colon of a piece of a blend, or None."""
    _, colon, number = piece.rpartition(":")
    try:
        return float(number) if colon else None
    except ValueError:
        return None


def _blend(parts: list[tuple[float | None, str]], words: str) -> Choice:
    shares: dict[str, float] = {}
    for weight, name in parts:
        if weight is None or not math.isfinite(weight) or weight <= 0:
            raise ConfigError(f"The blend {_short(words)} lacks a weight above 0. Write it like 'van gogh:0.6, pencil:0.4'.")
        look = _called(name)
        if look is None:
            raise _refusal(name)
        shares[look.name] = shares.get(look.name, 0.0) + weight
    total = sum(shares.values())
    text = " + ".join(f"{name} {share / total:.0%}" for name, share in shares.items())
    return Choice(looks=tuple(shares.items()), matched="blend", text=f"Looks taken: {text}.")


def _taken(look: Look, matched: Literal["name", "words"], *notes: str) -> Choice:
    text = " ".join((f"Look taken: {look.name} ({look.shows}).", *notes))
    return Choice(looks=((look.name, 1.0),), matched=matched, text=text)


# ------------------------------------------------------------------------------------------------------------ free words


def _matched(words: str) -> Choice:
    tokens, notes = _without_typos(_folded(words))
    if _REFUSED & set(tokens):
        # "Remove the colour" is a phrase of a look; any other sentence with such a word asks for what no look does.
        look = _phrases().get(tuple(token for token in tokens if token not in _SMALL | _MEDIUM | _VERBS))
        if look is None:
            raise _refusal(words)
        return _taken(look, "words", *notes)
    claims = bool(set(tokens) & _VERBS) or tokens[:1] in (("paint",), ("draw",))
    someone = [token for before, token in pairwise(tokens) if token in _PRONOUNS and _acts(before)]
    look = _best(tuple(token for token in tokens if token not in someone), 1.0 if claims else _THRESHOLD)
    if look is not None and not (someone and isinstance(look.recipe, Grade)):
        if someone:
            notes.append("The whole picture takes it; give --mask to keep it to one part.")
        return _taken(look, "words", *notes)
    head, of, subject = _split_subject(tokens)
    look = _best(head, 1.0) if of and not claims else None
    if look is None or isinstance(look.recipe, Grade):
        raise _refusal(words)
    notes.append(f"It changes how the video is painted, not what it shows: {subject!r} was not used.")
    return _taken(look, "words", *notes)


def _acts(token: str) -> bool:
    return token in _VERBS or token in ("paint", "draw", "render")


def _split_subject(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], bool, str]:
    if "of" not in tokens:
        return tokens, False, ""
    at = tokens.index("of")
    return tokens[:at], True, " ".join(tokens[at + 1 :])


def _scores(tokens: tuple[str, ...]) -> dict[str, float]:
    """The share of the claim in `tokens` that each look explains, for looks that explain any of it."""
    content = set(tokens) - _SMALL - _VERBS
    claim = content - _MEDIUM or content
    explained: dict[str, set[str]] = {}
    for phrase, look in _phrases().items():
        if set(phrase) <= set(tokens):
            explained.setdefault(look.name, set()).update(phrase)
    return {name: len(found & claim) / len(claim) for name, found in explained.items() if found & claim}


def _best(tokens: tuple[str, ...], threshold: float) -> Look | None:
    scores = _scores(tokens)
    ranked = sorted(LOOKS, key=lambda look: -scores.get(look.name, 0.0))
    first, second = (scores.get(look.name, 0.0) for look in ranked[:2])
    return ranked[0] if first >= threshold and first - second >= _MARGIN else None


def _without_typos(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    known = {word for phrase in _phrases() for word in phrase} | _SMALL | _MEDIUM | _VERBS | _PRONOUNS | _REFUSED
    long = sorted(word for word in known if len(word) >= _TYPO_LENGTH)
    fixed, notes = [], []
    for token in tokens:
        meant = [token]
        if token not in known and len(token) >= _TYPO_LENGTH:
            close = difflib.get_close_matches(token, long, n=1, cutoff=_TYPO)
            meant = [word for word in close if word[0] == token[0]] or [token]
        if meant[0] != token:
            notes.append(f"{token!r} was read as {meant[0]!r}.")
        fixed.append(meant[0])
    return tuple(fixed), notes


# --------------------------------------------------------------------------------------------------------------- refusal


def _short(words: str) -> str:
    return repr(words if len(words) <= 80 else words[:77] + "...")


def _refusal(words: str) -> ConfigError:
    scores = _scores(_without_typos(_folded(words))[0])
    asked = words.casefold()[:200]

    def likeness(look: Look) -> tuple[float, float]:
        alike = max(difflib.SequenceMatcher(None, asked, name).ratio() for name in (look.name, *look.aliases))
        return scores.get(look.name, 0.0), alike

    near = ", ".join(repr(look.name) for look in sorted(LOOKS, key=likeness, reverse=True)[:3])
    return ConfigError(
        f"{_short(words)} is no look that flowpaint has; the nearest are {near}. "
        "A look changes how a video is painted, not what it shows: for that, take a frame out with "
        "`flowpaint frames IN --at 0 -o keys/`, edit it, and run `flowpaint propagate IN --keyframe 0=keys/000000.png -o OUT`."
    )
