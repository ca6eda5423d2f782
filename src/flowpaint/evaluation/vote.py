"""Blind A/B votes of people: the page that asks, and the count of the answers.

A folder to vote on holds one folder for each method, with equally named videos, and may hold the sources:

    DIR/analogy/harbour.mp4    DIR/warp/harbour.mp4    DIR/source/harbour.mp4
    DIR/analogy/dancer.mp4     DIR/warp/dancer.mp4     DIR/source/dancer.mp4

The name without its ending is the case. Two methods meet in every case that both have.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import InputError, WorkError
from ..outputs import write_text
from .aggregate import wilson

VIDEOS = frozenset({".mp4", ".m4v", ".webm", ".mov", ".mkv", ".ogv"})
SOURCE = "source"  # the folder of what the methods were given
QUESTION = "Which video looks better?"
_FORMAT = "flowpaint votes 1"
_CHOICES = {"left", "right", "tie", "skip"}  # skip: a video of the pair could not be played


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of votes with its 95 % interval (Wilson 1927; half votes count as halves)."""

    count: float
    total: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Two methods: the share of votes that preferred `first`; a tie is half a vote for each."""

    first: str
    second: str
    wins: int  # of `first`
    losses: int
    ties: int
    preference: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """All votes counted. `methods` is each one's share of the votes it took part in; `left` is how often, where a side was
    chosen, it was the left one: an interval without 0.5 says that the place was voted for. `warnings` make it doubtful.

    The intervals take votes as independent. Several votes of one voter are not quite, so they are a little too narrow.
    """

    voters: int
    votes: int
    ties: int
    left: Share | None
    duels: tuple[Duel, ...]
    methods: Mapping[str, Share]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The poll as values that JSON holds."""
        return asdict(self)


# ----------------------------------------------------------------------------------------------------------------- page


def write_ballot(folder: Path, *, question: str = QUESTION) -> Path:
    """The page `vote.html`, written into `folder`, which shows its videos in pairs without their names.

    Order and sides are drawn anew for each voter; answers are kept in the browser and downloaded as votes-VOTER.json.
    Raises `InputError` for fewer than two methods or no case that two of them have, `WorkError` where it cannot be written.
    """
    methods, sources = _videos(folder)
    rounds = []
    for one, two in combinations(sorted(methods), 2):
        for case in sorted(methods[one].keys() & methods[two].keys()):
            files = [_link(methods[one][case], folder), _link(methods[two][case], folder)]
            source = {"source": _link(sources[case], folder)} if case in sources else {}
            rounds.append({"case": case, "pair": [one, two], "files": files, **source})
    if not rounds:
        raise InputError(
            f"No two methods in {folder} ({', '.join(sorted(methods))}) have a video of the same name. "
            "Name the videos of one case alike in every folder."
        )
    # Other videos under the same names are another vote: their sizes tell.
    sizes = {f"{method}/{case}": file.stat().st_size for method, row in methods.items() for case, file in row.items()}
    ballot = hashlib.sha256(json.dumps([rounds, sizes]).encode()).hexdigest()[:12]
    plan = json.dumps({"format": _FORMAT, "ballot": ballot, "question": question, "rounds": rounds}, ensure_ascii=False)
    page = folder / "vote.html"
    # "<" is written as an escape: no name can end the script.
    text = _PAGE.replace("/*STYLE*/", _STYLE).replace("/*SCRIPT*/", _SCRIPT.replace("PLAN", plan.replace("<", "\\u003c"), 1))
    try:
        write_text(page, text)
    except OSError as error:
        raise WorkError(f"The page cannot be written to {page}: {error}. Make the folder writable.") from error
    return page


def _link(file: Path, folder: Path) -> str:
    return quote(file.relative_to(folder).as_posix())


def _videos(folder: Path) -> tuple[dict[str, dict[str, Path]], dict[str, Path]]:
    """The videos by method and case, and the sources by case."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Give one that holds a folder of videos for each method.")
    found: dict[str, dict[str, Path]] = {}
    for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
        for file in sorted(inner.iterdir()):
            if file.suffix.lower() not in VIDEOS or not file.is_file():
                continue
            row = found.setdefault(inner.name, {})
            if file.stem in row:
                raise InputError(f"{inner} has two videos called {file.stem!r}. Keep one of them.")
            row[file.stem] = file
    sources = found.pop(SOURCE, {})
    if len(found) < 2:
        held = ", ".join(found) or "none"
        raise InputError(
            f"{folder} has videos of {len(found)} methods ({held}) and a vote needs two. Give each method a folder of videos."
        )
    return found, sources


# ---------------------------------------------------------------------------------------------------------------- count


def tally(places: Path | Sequence[Path]) -> Poll:
    """The count of the votes in files, or in the votes*.json of folders. Of votes given twice by one voter, the last counts.

    Raises `InputError` where there is no file, no vote, or a file is damaged.
    """
    files = list(_files([places] if isinstance(places, Path) else places))
    sheets = sorted((_sheet(file) for file in files), key=lambda sheet: str(sheet["saved"]))
    last: dict[tuple[str, str, str, str], tuple[str, str, str]] = {}
    for sheet in sheets:
        for vote in sheet["votes"]:
            one, two = sorted((vote["left"], vote["right"]))
            last[sheet["voter"], vote["case"], one, two] = vote["left"], vote["right"], vote["choice"]
    votes = [vote for vote in last.values() if vote[-1] != "skip"]
    if not votes:
        raise InputError(f"The {len(files)} files hold no vote. Let people vote, and give the files that the page saves.")
    ballots = {sheet["ballot"] for sheet in sheets}
    warnings = [f"The votes come from {len(ballots)} different pages."] if len(ballots) > 1 else []
    decided = [choice for _, _, choice in votes if choice != "tie"]
    left = share(decided.count("left"), len(decided)) if decided else None
    if left and not left.low <= 0.5 <= left.high:
        warnings.append(f"The left video was chosen in {left.share:.0%} of the decided votes: its place was voted for too.")
    return Poll(
        voters=len({key[0] for key, vote in last.items() if vote[-1] != "skip"}),
        votes=len(votes),
        ties=len(votes) - len(decided),
        left=left,
        duels=_duels(votes),
        methods=_methods(votes),
        warnings=tuple(warnings),
    )


def share(count: float, total: int) -> Share:
    """`count` of `total` with its interval."""
    low, high = wilson(count, total)
    return Share(count=count, total=total, share=count / total, low=low, high=high)


def _duels(votes: Iterable[tuple[str, str, str]]) -> tuple[Duel, ...]:
    counts: dict[tuple[str, str], list[int]] = {}
    for left, right, choice in votes:
        first, second = sorted((left, right))
        winner = {"left": left, "right": right}.get(choice)
        counts.setdefault((first, second), [0, 0, 0])[2 if winner is None else int(winner != first)] += 1
    return tuple(
        Duel(first=one, second=two, wins=won, losses=lost, ties=tied, preference=share(won + tied / 2, won + lost + tied))
        for (one, two), (won, lost, tied) in sorted(counts.items())
    )


def _methods(votes: Iterable[tuple[str, str, str]]) -> dict[str, Share]:
    """Each method's share, the most preferred first."""
    counts: dict[str, list[float]] = {}
    for left, right, choice in votes:
        for name, side in ((left, "left"), (right, "right")):
            row = counts.setdefault(name, [0.0, 0])
            row[0] += 0.5 if choice == "tie" else float(choice == side)
            row[1] += 1
    shares = {name: share(count, int(total)) for name, (count, total) in sorted(counts.items())}
    return dict(sorted(shares.items(), key=lambda item: -item[1].share))


def _files(places: Sequence[Path]) -> Iterable[Path]:
    for place in places:
        if not place.is_dir():
            yield place
            continue
        found = sorted(place.glob("votes*.json"))
        if not found:
            raise InputError(f"{place} has no votes*.json. Collect there what the page `vote.html` saved for each voter.")
        yield from found


def _sheet(file: Path) -> dict[str, Any]:
    """One file of votes, checked."""
    try:
        sheet = json.loads(file.read_text("utf-8"))
        if sheet["format"] != _FORMAT:
            raise ValueError(f"its format is {sheet['format']!r}")
        texts = [sheet["voter"], sheet["ballot"], *(vote[name] for vote in sheet["votes"] for name in ("case", "left", "right"))]
        if not all(isinstance(one, str) and one for one in texts):
            raise ValueError("a name is missing")
        for vote in sheet["votes"]:
            if vote["choice"] not in _CHOICES or vote["left"] == vote["right"]:
                raise ValueError(f"{vote} is no vote")
        return {**sheet, "saved": sheet.get("saved", "")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{file} is no file of votes: {told}. Give what `vote.html` saved, unchanged.") from error


# --------------------------------------------------------------------------------------------------- what the browser gets

_STYLE = """
:root{color-scheme:light dark;--paper:#fdfcfa;--ink:#1c1b19;--soft:#615d57;--rule:#d9d5ce;--panel:#f1eee9;--mark:#0b63b0}
@media (prefers-color-scheme:dark){
:root{--paper:#141312;--ink:#e9e6e1;--soft:#a9a49c;--rule:#3b3936;--panel:#242220;--mark:#6cb2ff}}
*{box-sizing:border-box}[hidden]{display:none!important}
body{margin:0 auto;padding:22px 24px 40px;max-width:1600px;background:var(--paper);color:var(--ink);
font:17px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
header{display:flex;flex-wrap:wrap;gap:4px 24px;align-items:baseline;justify-content:space-between;margin-bottom:16px}
h1{font-size:24px;line-height:1.25;font-weight:650;margin:0}p{margin:0}.soft{color:var(--soft);font-size:15px}
#stage{display:grid;gap:16px;grid-template-columns:1fr 1fr}#stage.three{grid-template-columns:1fr 1fr 1fr}
figure{margin:0;min-width:0}figcaption{font-weight:650;margin:0 0 6px}#given{color:var(--soft)}
video{display:block;width:100%;max-height:68vh;background:var(--panel);border-radius:4px}
#answers{display:grid;grid-template-columns:1fr 1fr 1fr;gap:12px;max-width:760px;margin:22px auto 12px}
button{font:inherit;color:inherit;padding:13px 16px;min-height:50px;border:1px solid var(--rule);border-radius:8px;
background:var(--panel);cursor:pointer}
button:hover:enabled{border-color:var(--mark)}button:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
button:disabled{opacity:.45;cursor:default}#answers button{font-weight:650}
kbd{font:13px ui-monospace,Menlo,Consolas,monospace;border:1px solid var(--rule);border-radius:4px;padding:1px 6px;
margin-left:8px}
.row{display:flex;flex-wrap:wrap;gap:12px;justify-content:center;align-items:center}
.row button{min-height:44px;padding:9px 16px}#state{min-height:30px}
#done{text-align:center;padding:12vh 0;display:grid;gap:18px;justify-items:center}
progress{width:180px;height:8px;accent-color:var(--mark)}
#save{background:var(--mark);color:var(--paper);border-color:var(--mark)}
@media (max-width:700px){body{padding:14px 14px 28px;font-size:16px}#stage,#stage.three{grid-template-columns:1fr;gap:10px}
video{max-height:30vh;object-fit:contain}#stage.three video{max-height:17vh}kbd{display:none}h1{font-size:20px}
#answers{position:sticky;bottom:0;background:var(--paper);padding:10px 0;gap:8px;margin-top:6px}
#answers button{padding:10px 6px}}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="referrer" content="no-referrer"><title>Which is better?</title><style>/*STYLE*/</style></head>
<body><header><h1 id="question"></h1>
<p class="soft"><span id="count" aria-live="polite"></span> <progress id="bar" aria-label="Pairs done"></progress></p></header>
<main><div id="voting"><div id="stage">
<figure id="sourcebox"><figcaption id="given">Source</figcaption>
<video id="source" muted playsinline preload="auto" aria-label="Source video"></video></figure>
<figure><figcaption>A</figcaption><video id="a" muted playsinline preload="auto" aria-label="Video A"></video></figure>
<figure><figcaption>B</figcaption><video id="b" muted playsinline preload="auto" aria-label="Video B"></video></figure></div>
<div id="answers"><button id="left">A<kbd>A</kbd></button><button id="tie">No difference<kbd>=</kbd></button>
<button id="right">B<kbd>B</kbd></button></div>
<p class="row soft" id="state" role="status"><span id="words"></span><button id="skip" hidden>Skip this pair</button></p>
<div class="row"><button id="again">Play again<kbd>space</kbd></button><button id="back">Back<kbd>backspace</kbd></button>
<button id="stop">Stop here</button></div></div>
<div id="done" hidden><h1>Thank you.</h1><p id="told"></p>
<div class="row"><button id="save">Save my votes</button><button id="more">Go on</button>
<button id="next">Next voter</button></div>
<p class="soft">Send the saved file to the person who asked you.</p></div></main>
<noscript><p>This page needs JavaScript.</p></noscript><script>/*SCRIPT*/</script></body></html>
"""

_SCRIPT = """'use strict';
const plan = PLAN;
const $ = id => document.getElementById(id), key = 'flowpaint ' + plan.ballot, sides = ['left', 'tie', 'right'];
// Order and sides come from the voter's own number: a reload shows the same, another voter sees another order.
function random(seed) {  // mulberry32
  return () => { seed = seed + 0x6D2B79F5 | 0; let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t; return ((t ^ t >>> 14) >>> 0) / 4294967296; };
}
let kept = null;
try { kept = JSON.parse(localStorage.getItem(key)); } catch (e) { kept = null; }
if (!kept || !Array.isArray(kept.votes)) kept = {seed: crypto.getRandomValues(new Uint32Array(1))[0], votes: []};
const draw = random(kept.seed), rounds = plan.rounds.map(one => ({...one, swap: draw() < 0.5}));
for (let i = rounds.length - 1; i > 0; i--) {
  const j = Math.floor(draw() * (i + 1)); [rounds[i], rounds[j]] = [rounds[j], rounds[i]];
}
const voter = kept.seed.toString(16).padStart(8, '0');
let videos = [], shown = 0, ready = false, ended = false, saved = !kept.votes.length;
function store() {
  saved = false;
  try { localStorage.setItem(key, JSON.stringify(kept)); } catch (e) { /* a private window: kept until it closes */ }
}
function play() { for (const v of videos) { v.currentTime = 0; v.play().catch(() => 0); } }
function ask(enabled) { ready = enabled; for (const id of sides) $(id).disabled = !enabled; }
function show() {
  const at = kept.votes.length, total = rounds.length;
  ended = ended || at >= total;
  $('voting').hidden = $('bar').hidden = ended; $('done').hidden = !ended; $('more').hidden = at >= total;
  $('count').textContent = ended ? '' : (at + 1) + ' of ' + total; $('bar').max = total; $('bar').value = at;
  $('told').textContent = 'You compared ' + at + ' of ' + total + ' pairs.';
  $('save').disabled = $('back').disabled = !at;
  if (ended) { for (const v of videos) v.pause(); return; }
  const one = rounds[at], files = one.swap ? [one.files[1], one.files[0]] : one.files;
  const wanted = [[$('a'), files[0]], [$('b'), files[1]]].concat(one.source ? [[$('source'), one.source]] : []);
  videos = wanted.map(row => row[0]);
  $('sourcebox').hidden = !one.source; $('stage').className = one.source ? 'three' : '';
  $('words').textContent = 'Loading'; $('skip').hidden = true; ask(false);
  const waiting = new Set(videos);
  const arrived = v => {
    if (!waiting.delete(v) || waiting.size) return;
    $('words').textContent = ''; ask(true); shown = Date.now(); play();
  };
  for (const [v, file] of wanted) {
    v.oncanplaythrough = () => arrived(v);
    v.onended = () => { if (videos.every(w => w.ended || w.error)) play(); };
    v.onerror = () => {
      if (v === $('source')) { $('sourcebox').hidden = true; $('stage').className = ''; arrived(v); return; }
      $('words').textContent = 'A video of this pair cannot be played here.'; $('skip').hidden = false;
    };
    v.src = file; v.load();
  }
}
function note(choice) {
  const one = rounds[kept.votes.length], pair = one.swap ? [one.pair[1], one.pair[0]] : one.pair;
  const seconds = choice === 'skip' ? 0 : Math.round((Date.now() - shown) / 100) / 10;
  kept.votes.push({case: one.case, left: pair[0], right: pair[1], choice, seconds});
  store(); show();
}
function choose(choice) { if (ready && !ended) note(choice); }
function back() { if (kept.votes.length) { kept.votes.pop(); ended = false; store(); show(); } }
function save() {
  const {format, ballot, question} = plan, link = document.createElement('a');
  const sheet = {format, ballot, question, voter, saved: new Date().toISOString(), votes: kept.votes};
  link.href = URL.createObjectURL(new Blob([JSON.stringify(sheet, null, 1)], {type: 'application/json'}));
  link.download = 'votes-' + voter + '.json'; link.click(); saved = true;
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function next() {
  if (!saved && kept.votes.length && !confirm('The votes of this voter may not be saved. Forget them?')) return;
  try { localStorage.removeItem(key); } catch (e) { /* nothing was kept */ }
  location.reload();
}
$('question').textContent = document.title = plan.question;
for (const id of sides) $(id).onclick = () => choose(id);
$('again').onclick = play; $('back').onclick = back; $('save').onclick = save; $('next').onclick = next;
$('skip').onclick = () => note('skip');
$('stop').onclick = () => { ended = true; show(); }; $('more').onclick = () => { ended = false; show(); };
const keys = {a: () => choose('left'), b: () => choose('right'), '=': () => choose('tie'), ' ': play, backspace: back};
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || ended) return;
  if (event.key === ' ' && event.target.tagName === 'BUTTON') return;  // the button's own key
  const doing = keys[event.key.toLowerCase()];
  if (doing) { event.preventDefault(); doing(); }
});
show();
"""
