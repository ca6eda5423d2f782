"""The blind vote: a page that hides the names and asks for every pair, and an honest count of the answers."""

import json
import random
import re
import shutil
from itertools import combinations
from urllib.parse import unquote

import pytest
from scipy import stats

from flowpaint.errors import InputError
from flowpaint.evaluation.vote import tally, write_ballot


def lay(folder, **methods):
    """Empty videos: names of files by method."""
    for method, names in methods.items():
        for name in names:
            (folder / method).mkdir(parents=True, exist_ok=True)
            (folder / method / name).write_bytes(b"film")
    return folder


def plan_of(page):
    return json.loads(re.search(r"const plan = (.*);\n", page.read_text("utf-8"))[1])


def vote(case, left, right, choice):
    return {"case": case, "left": left, "right": right, "choice": choice, "seconds": 2.5}


def save(folder, voter, votes, *, name=None, **changes):
    sheet = {"format": "flowpaint votes 1", "ballot": "b", "question": "?", "voter": voter, "saved": "2026-01-01", "votes": votes}
    file = folder / (name or f"votes-{voter}.json")
    file.write_text(json.dumps(sheet | changes), "utf-8")
    return file


# ----------------------------------------------------------------------------------------------------------------- page


def test_every_pair_meets_in_every_case_that_both_have(tmp_path):
    lay(tmp_path, a=["1.mp4", "2.webm", "x.txt"], b=["1.webm", "2.mp4"], c=["2.mp4", "3.mp4"], source=["2.mp4", "9.mp4"])
    page = write_ballot(tmp_path)
    assert page == tmp_path / "vote.html"
    rounds = plan_of(page)["rounds"]
    assert {(one["case"], *one["pair"]) for one in rounds} == {("1", "a", "b"), ("2", "a", "b"), ("2", "a", "c"), ("2", "b", "c")}
    for one in rounds:
        for method, file in zip(one["pair"], one["files"], strict=True):
            assert (tmp_path / file).is_file()
            assert file.startswith(f"{method}/{one['case']}.")
        assert one.get("source") == ("source/2.mp4" if one["case"] == "2" else None)


def test_strange_names_are_linked_and_escaped(tmp_path):
    evil = "</script><b>&#x"
    lay(tmp_path, **{"a b#": ["x y%.mp4"], "c": ["x y%.mp4"]})
    page = write_ballot(tmp_path, question=evil)
    text = page.read_text("utf-8")
    assert evil not in text
    assert text.count("</script>") == 1
    plan = plan_of(page)
    assert plan["question"] == evil
    assert plan["rounds"][0]["files"][0] == "a%20b%23/x%20y%25.mp4"
    assert (tmp_path / unquote(plan["rounds"][0]["files"][0])).is_file()


def test_the_page_hides_the_names_and_fetches_nothing_else(tmp_path):
    text = write_ballot(lay(tmp_path, hidden_one=["1.mp4"], hidden_two=["1.mp4"])).read_text("utf-8")
    outside = re.sub(r"const plan = .*;\n", "", text)
    assert "hidden" in outside
    assert "hidden_" not in outside
    assert "http" not in outside
    assert re.findall(r'(?:src|href)="[^"]*"', outside) == []
    for what in ("'=': () => choose('tie')", "a: () => choose('left')", "b: () => choose('right')", "draw() < 0.5"):
        assert what in outside


def test_other_videos_are_another_ballot(tmp_path):
    lay(tmp_path, a=["1.mp4"], b=["1.mp4"])
    first = plan_of(write_ballot(tmp_path))["ballot"]
    assert plan_of(write_ballot(tmp_path))["ballot"] == first
    (tmp_path / "a" / "1.mp4").write_bytes(b"another film")
    assert plan_of(write_ballot(tmp_path))["ballot"] != first


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({}, "0 methods"),
        ({"a": ["1.mp4"]}, "1 methods"),
        ({"a": ["1.mp4"], "source": ["1.mp4"]}, "1 methods"),
        ({"a": ["1.mp4"], "b": ["1.txt"]}, "1 methods"),
        ({"a": ["1.mp4"], "b": ["2.mp4"]}, "No two methods"),
        ({"a": ["1.mp4", "1.webm"], "b": ["1.mp4"]}, "two videos called '1'"),
    ],
)
def test_a_folder_without_a_pair_is_refused(tmp_path, methods, words):
    with pytest.raises(InputError, match=words) as found:
        write_ballot(lay(tmp_path, **methods))
    assert len(re.findall(r"\.(?: |$)", str(found.value))) == 2
    assert not (tmp_path / "vote.html").exists()


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        write_ballot(tmp_path / "absent")
    lay(tmp_path, a=["1.mp4"], b=["1.mp4"])
    (tmp_path / "vote.html").mkdir()
    with pytest.raises(InputError, match="is a folder where a file would go"):
        write_ballot(tmp_path)


# ---------------------------------------------------------------------------------------------------------------- count


def test_shares_are_counted_whatever_the_side(tmp_path):
    save(tmp_path, "v1", [vote("1", "a", "b", "left"), vote("2", "b", "a", "right"), vote("3", "b", "a", "left")])
    save(tmp_path, "v2", [vote("1", "b", "a", "tie"), vote("2", "a", "c", "left"), vote("9", "a", "c", "skip")])
    poll = tally(tmp_path)
    assert (poll.voters, poll.votes, poll.ties) == (2, 5, 1)
    ab, ac = poll.duels
    assert (ab.first, ab.second, ab.wins, ab.losses, ab.ties, ab.preference.share) == ("a", "b", 2, 1, 1, 2.5 / 4)
    assert (ac.first, ac.second, ac.wins, ac.losses, ac.ties) == ("a", "c", 1, 0, 0)
    assert {name: (one.count, one.total) for name, one in poll.methods.items()} == {"a": (3.5, 5), "b": (1.5, 4), "c": (0, 1)}
    assert list(poll.methods) == ["a", "b", "c"]
    assert (poll.left.count, poll.left.total) == (3, 4)
    assert json.loads(json.dumps(poll.to_dict()))["voters"] == 2


def test_intervals_are_wilsons(tmp_path):
    save(tmp_path, "v", [vote(str(i), "a", "b", "left" if i < 14 else "right") for i in range(20)])
    one = tally(tmp_path).duels[0].preference
    known = stats.binomtest(14, 20).proportion_ci(method="wilson")
    assert (one.low, one.high) == pytest.approx((known.low, known.high))


def test_a_voter_for_places_is_told(tmp_path):
    rows = [vote(str(i), *(("a", "b") if i % 2 else ("b", "a")), "left") for i in range(30)]
    save(tmp_path, "v", rows)
    poll = tally(tmp_path)
    assert poll.left.share == 1
    assert poll.duels[0].preference.share == 0.5
    assert "left video was chosen in 100%" in poll.warnings[0]
    save(tmp_path, "v", [one | {"choice": ("left", "right")[i // 2 % 2]} for i, one in enumerate(rows)])
    assert tally(tmp_path).warnings == ()


def test_the_same_vote_given_twice_counts_once_and_the_last(tmp_path):
    late = save(
        tmp_path, "v", [vote("1", "b", "a", "left"), vote("2", "a", "b", "left")], name="votes-v.json", saved="2026-01-02"
    )
    early = save(tmp_path, "v", [vote("1", "a", "b", "left")], name="votes-v (1).json", saved="2026-01-01")
    for order in ([late, early], [early, late]):
        poll = tally(order)
        assert (poll.votes, poll.voters, poll.duels[0].wins, poll.duels[0].losses) == (2, 1, 1, 1)


def test_files_and_folders_may_be_mixed_and_other_ballots_are_told(tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    one = save(tmp_path, "v1", [vote("1", "a", "b", "left")], name="mine.json")
    save(folder, "v2", [vote("1", "a", "b", "right")], ballot="other")
    poll = tally([one, folder])
    assert (poll.voters, poll.votes) == (2, 2)
    assert "2 different pages" in poll.warnings[0]
    assert tally([one]).left.share == 1


def test_only_ties_have_no_side(tmp_path):
    save(tmp_path, "v", [vote("1", "a", "b", "tie")])
    poll = tally(tmp_path)
    assert poll.left is None
    assert poll.duels[0].preference.share == 0.5


def test_known_preferences_are_found(tmp_path):
    """Simulated voters who prefer the better method with a known chance: the intervals hold the truth."""
    chance = {("a", "b"): 0.7, ("a", "c"): 0.9, ("b", "c"): 0.6}
    rng = random.Random(3)
    for voter in range(40):
        rows = []
        for one, two in combinations("abc", 2):
            for case in range(8):
                left, right = rng.sample([one, two], 2)
                wins = rng.random() < chance[one, two]
                rows.append(vote(str(case), left, right, "left" if (left == one) == wins else "right"))
        save(tmp_path, f"v{voter}", rows)
    poll = tally(tmp_path)
    assert poll.votes == 40 * 24
    assert poll.warnings == ()
    assert list(poll.methods) == ["a", "b", "c"]
    for duel in poll.duels:
        assert duel.preference.low < chance[duel.first, duel.second] < duel.preference.high
        assert duel.preference.high - duel.preference.low < 0.12


GOOD = vote("1", "a", "b", "left")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        "\x00\x01",
        json.dumps({"format": "flowpaint votes 2", "voter": "v", "ballot": "b", "votes": [GOOD]}),
        json.dumps({"format": "flowpaint votes 1", "ballot": "b", "votes": [GOOD]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": [GOOD | {"choice": "both"}]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": [GOOD | {"choice": ["left"]}]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": [GOOD | {"right": "a"}]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": [GOOD | {"left": 3}]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": ["left"]}),
        json.dumps({"format": "flowpaint votes 1", "voter": "v", "ballot": "b", "votes": [GOOD]})[:-9],
    ],
)
def test_damaged_files_are_refused(tmp_path, text):
    save(tmp_path, "fine", [GOOD])
    (tmp_path / "votes-bad.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"votes-bad\.json is no file of votes: .+\. Give what"):
        tally(tmp_path)


def test_nothing_to_count_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no votes"):
        tally(tmp_path)
    with pytest.raises(InputError, match="is no file of votes"):
        tally(tmp_path / "votes-absent.json")
    save(tmp_path, "v", [])
    with pytest.raises(InputError, match="hold no vote"):
        tally(tmp_path)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_of_the_page_is_javascript(tmp_path):
    import subprocess

    text = write_ballot(lay(tmp_path, a=["1.mp4"], b=["1.mp4"])).read_text("utf-8")
    (tmp_path / "page.js").write_text(text.partition("<script>")[2].partition("</script>")[0], "utf-8")
    subprocess.run(["node", "--check", str(tmp_path / "page.js")], check=True)
