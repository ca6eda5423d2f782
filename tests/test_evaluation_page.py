"""The page of a report: complete, self-contained, escaped; its numbers the same in JSON and CSV."""

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowpaint.errors import InputError
from flowpaint.evaluation import plot, tables
from flowpaint.evaluation.aggregate import summarise
from flowpaint.evaluation.card import Card
from flowpaint.evaluation.page import Report, Strip, Worst, read_cards, write_report
from flowpaint.types import Measure

NAMES = ("psnr", "ssim", "change", "sharpness", "we_src", "we_ratio", "flicker", "colour_drift", "clip_text", "seconds")
WAYS = (True, True, None, None, False, False, False, False, True, False)
MEASURES = {
    name: Measure(
        name=name, title=f"Title of {name}", unit="dB" if name == "psnr" else "", higher_is_better=way, source=f"Eq {name}"
    )
    for name, way in zip(NAMES, WAYS, strict=True)
}
EVIL = '<script>alert("x")</script>&'


def card(label, seed=0, frames=24, **changes):
    rng = np.random.default_rng(seed)
    curves = ("we_src", "flicker", "sharpness")
    made = Card(
        label=label,
        frames=frames,
        width=64,
        height=36,
        measures=MEASURES,
        values={name: float(rng.uniform(1, 2)) for name in NAMES[:-2]},
        series={name: {i: float(rng.uniform(1, 2)) for i in range(1, frames)} for name in curves},
        missing={"clip_text": "needs the weights of CLIP", "seconds": "was not timed"},
        facts={"warp-error.flow": "dis medium", "warp-error.coverage": 0.5 + seed},
        warnings=("The mask is large.",),
        times=tuple(i / 24 for i in range(frames)),
        recipe={"part": "warp", "flow": {"part": "dis"}},
    )
    return replace(made, **changes)


class Reader(HTMLParser):
    """The page as its elements, checked to be nested as they should."""

    VOID = frozenset({"meta", "img", "input", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(self.texts)


def shown(tmp_path, report):
    """The page of a report, read."""
    write_report(tmp_path / "r.html", report)
    return Reader((tmp_path / "r.html").read_text("utf-8"))


def picture(height=18, width=64, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def report():
    return Report(
        title="A comparison",
        subtitle="Seen twice",
        cards=(card("one"), card("two", 1)),
        strips=(Strip(caption="0:01.00: source | one | two", picture=picture()),),
        worst=(Worst(label="two", measure="we_src", frame=7, time=7 / 24, value=1.75, picture=picture(seed=1)),),
        command="flowpaint compare a.mp4 b.mp4",
        versions={"flowpaint": "9.8.7"},
        notes=("A note.",),
    )


# ----------------------------------------------------------------------------------------------------------------- page


def test_nothing_comes_from_elsewhere(tmp_path, report):
    page = shown(tmp_path, report)
    links = [
        (name, attrs[key]) for name, attrs in page.tags for key in ("src", "href", "srcset", "poster", "data") if key in attrs
    ]
    assert [link for name, link in links if name != "a" and not link.startswith("data:")] == []
    assert [link for name, link in links if name == "a"] == ["r.json", "r.csv"]
    assert not {"script", "link", "iframe", "object", "base"} & {name for name, _ in page.tags}
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "@import" not in text
    assert "url(" not in text
    assert re.findall(r"https?://[^\"]*", text.replace("http://www.w3.org/2000/svg", "")) == []


def test_every_measure_number_reason_fact_and_warning_is_there(tmp_path, report):
    page = shown(tmp_path, report)
    words = (tmp_path / "r.html").read_text("utf-8")
    for one in MEASURES.values():
        assert one.title in page.text
        assert one.source in page.text
    for each in report.cards:
        assert each.label in page.text
        assert all(plot.number(value, 3) in page.text for value in each.values.values())
    for told in ("needs the weights of CLIP", "was not timed", "dis medium", "The mask is large.", "A note.", "Seen twice"):
        assert words.count(told) == 1, told  # said once for both
    assert "flowpaint compare a.mp4 b.mp4" in page.text
    assert "flowpaint 9.8.7" in page.text
    assert "<b>Title of clip_text</b>: needs the weights of CLIP" in words
    assert words.index("The mask is large.") < words.index("<img") < words.index("Title of psnr")
    assert len(re.findall("<svg", words)) == 3
    assert words.index("Title of we_src over time") < words.index("Title of flicker over time")


def test_the_table_is_one_for_those_who_cannot_see(tmp_path, report):
    page = shown(tmp_path, report)
    assert {attrs.get("scope") for attrs in page.all("th")} == {"col", "row"}
    assert all(attrs["alt"] for attrs in page.all("img"))
    assert all(attrs["aria-label"] for attrs in page.all("svg"))
    assert page.all("html")[0]["lang"] == "en"
    assert all("min" in attrs or "width=device-width" in attrs["content"] for attrs in page.all("meta") if attrs.get("name"))


def test_the_best_is_marked_by_what_is_shown(tmp_path):
    low, high, tied = MEASURES["flicker"], MEASURES["psnr"], MEASURES["change"]
    assert tables.best([1.0, 2.0, None], low) == {0}
    assert tables.best([1.0, 2.0, 2.00001], high) == {1, 2}  # the same to three digits
    assert tables.best([1.0, 1.00001], low) == set()
    assert tables.best([1.0, 2.0], tied) == set()
    assert tables.best([1.0, None], low) == set()
    one, two = card("one", values={"psnr": 30.0, "change": 1.0}), card("two", values={"psnr": 31.0, "change": 2.0})
    marked = tables.card_table((one, two))
    assert re.findall(r'class="best">([\d.]+)<', marked) == ["31.000"]
    assert 'class="best"' not in tables.card_table((one,))


def test_what_users_wrote_is_text(tmp_path):
    measure = Measure(name="m", title=EVIL, unit=EVIL, higher_is_better=True, source=EVIL)
    evil = card(
        EVIL,
        measures={"m": measure, "n": measure},
        values={"m": 1.0},
        series={"m": {0: 1.0, 1: 2.0}},
        missing={"n": EVIL},
        facts={EVIL: EVIL},
        warnings=(EVIL,),
        recipe={EVIL: EVIL},
    )
    page = shown(
        tmp_path,
        Report(
            title=EVIL,
            subtitle=EVIL,
            cards=(evil, replace(evil, label="'\"><b>")),
            strips=(Strip(caption=EVIL, picture=picture()),),
            worst=(Worst(label=EVIL, measure="m", frame=0, time=0, value=1, picture=picture()),),
            summaries=(summarise({EVIL: {EVIL: evil, "x": evil}}, name=EVIL),),
            videos={EVIL: tmp_path / "no.mp4"},
            recipes={EVIL: {EVIL: EVIL}},
            command=EVIL,
            versions={EVIL: EVIL},
            notes=(EVIL,),
        ),
    )
    assert page.all("script") == []
    assert page.text.count(EVIL) > 20
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)


def test_no_nan_is_printed_and_its_reason_is_told(tmp_path):
    odd = card(
        "odd",
        values={"psnr": math.inf, "ssim": math.nan, "flicker": 1.0},
        series={"flicker": {0: math.nan, 1: 1.0, 2: math.inf, 3: 2.0}, "we_src": {0: math.nan}},
        facts={"f": math.nan},
        recipe={"sigma": math.nan},
        times=(math.nan,),
    )
    page = shown(tmp_path, Report(title="t", cards=(odd,), worst=()))
    assert "the answer is inf" in page.text
    assert "not known" in page.text
    body = (tmp_path / "r.html").read_text("utf-8").partition("<body>")[2]
    assert re.findall(r"(?i)\bnan\b", body) == ["nan"]  # "the answer is nan", the reason
    (read,) = read_cards(tmp_path / "r.json")
    assert read.values == {"flicker": 1.0}
    assert read.series == {"flicker": {1: 1.0, 3: 2.0}, "we_src": {}}
    assert read.missing["ssim"] == "the answer is nan"


def test_one_frame_and_no_series(tmp_path):
    single = card("one", frames=1, series={"flicker": {0: 1.5}}, times=(0.0,))
    page = shown(tmp_path, Report(title="t", cards=(single,)))
    assert "1 frame," in page.text
    assert len(page.all("svg")) == 1
    assert "Over time" not in shown(tmp_path, Report(title="t", cards=(card("one", series={}),))).text
    assert "No measure has a number" in shown(tmp_path, Report(title="t", cards=(card("one", values={}),))).text


def test_cards_that_differ_say_how(tmp_path):
    page = shown(tmp_path, Report(title="t", cards=(card("a"), card("b", frames=12, warnings=("Only b.",), missing={}))))
    assert "a : " not in page.text
    assert "a: 24 frames" in page.text
    assert "b: 12 frames" in page.text
    assert "no reason was given" in page.text
    assert re.search(r"b:\s+Only b\.", page.text)


def test_equal_labels_are_told_apart(tmp_path):
    write_report(tmp_path / "r.html", Report(title="t", cards=(card("a"), card("a", 1), card("a", 2))))
    assert [one.label for one in read_cards(tmp_path / "r.json")] == ["a", "a (2)", "a (3)"]


def test_a_picture_is_in_the_page(tmp_path, report):
    flat = np.full((9, 31, 3), (10, 200, 30), np.uint8)
    page = shown(tmp_path, replace(report, strips=(Strip(caption="flat", picture=flat[:, ::-1]),), worst=()))
    (attrs,) = page.all("img")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))))
    assert np.array_equal(found, flat)
    assert attrs["src"].startswith("data:image/png")  # the smaller one
    assert (attrs["width"], attrs["height"]) == ("31", "9")
    photo = shown(tmp_path, replace(report, strips=(Strip(caption="x", picture=picture(64, 64)),), worst=())).all("img")[0]
    assert photo["src"].startswith("data:image/jpeg")
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(photo["src"].partition(",")[2]))))
    assert np.abs(back.astype(int) - picture(64, 64)).mean() < 8


def test_videos_are_embedded_where_small_and_linked_where_large(tmp_path, report):
    small, large, unknown = tmp_path / "v" / "a b.mp4", tmp_path / "v" / "large.mp4", tmp_path / "v" / "x.y4m"
    small.parent.mkdir()
    small.write_bytes(b"film")
    large.write_bytes(b"0" * (2 * 2**20 + 1))
    unknown.write_bytes(b"film")
    videos = {"s": small, "l": large, "u": unknown, "gone": tmp_path / "gone.mp4"}
    page = shown(tmp_path / "out", replace(report, videos=videos))
    assert [attrs["src"] for attrs in page.all("video")] == ["data:video/mp4;base64,ZmlsbQ==", "../v/large.mp4"]
    links = [attrs["href"] for attrs in page.all("a")]
    assert links[:3] == ["../v/a%20b.mp4", "../v/large.mp4", "../v/x.y4m"]
    assert "gone.mp4 is no longer there" in page.text


# -------------------------------------------------------------------------------------------------------------- numbers


def test_json_and_csv_hold_the_cards(tmp_path, report):
    page, numbers, rows = write_report(tmp_path / "deep" / "name.html", report)
    assert (page.name, numbers.name, rows.name) == ("name.html", "name.json", "name.csv")
    assert read_cards(numbers) == report.cards
    told = json.loads(numbers.read_text("utf-8"))
    assert told["worst"] == [{"label": "two", "measure": "we_src", "frame": 7, "time": 7 / 24, "value": 1.75}]
    assert (told["title"], told["command"], told["notes"]) == ("A comparison", "flowpaint compare a.mp4 b.mp4", ["A note."])
    table = list(csv.DictReader(io.StringIO(rows.read_text("utf-8"))))
    for one in report.cards:
        mine = [row for row in table if row["label"] == one.label]
        clip = [row for row in mine if row["frame"] == ""]
        assert {row["measure"]: float(row["value"]) for row in clip if row["value"]} == one.values
        assert {row["measure"]: row["missing"] for row in clip if row["missing"]} == one.missing
        for name, curve in one.series.items():
            found = {
                int(row["frame"]): (float(row["value"]), float(row["time"]))
                for row in mine
                if row["frame"] and row["measure"] == name
            }
            assert found == {i: (value, one.times[i]) for i, value in curve.items()}
    assert {row["better"] for row in table} == {"higher", "lower", ""}


def test_a_benchmark(tmp_path):
    results = {f"case {i}": {"a": card("a", i), "b": card("b", 100 + i)} for i in range(7)}
    del results["case 3"]["b"]
    summary = summarise(results)
    page = shown(tmp_path, Report(title="bench", summaries=(summary,)))
    for one in summary.averages:
        if one.mean is not None:
            assert plot.number(one.mean) in page.text
            assert f"median {plot.number(one.median)}" in page.text
    assert "6 of 7 cases" in page.text
    assert "none in 1 of 7, most often because: not run" in page.text
    (pair,) = (one for one in summary.pairs if one.measure == "psnr")
    assert plot.number(pair.difference) in page.text
    assert f"{pair.p:.3f}" in page.text
    assert "case 6" in page.text
    assert 'class="best"' not in (tmp_path / "r.html").read_text("utf-8")  # means over other cases are not compared
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text("utf-8"))))
    assert {(row["case"], row["label"], row["measure"]): float(row["value"]) for row in rows} == {
        (case, label, name): value
        for case, row in results.items()
        for label, one in row.items()
        for name, value in one.values.items()
    }
    told = json.loads((tmp_path / "r.json").read_text("utf-8"))["summaries"][0]
    assert told["values"]["case 0"]["a"] == results["case 0"]["a"].values


def test_bad_reports_are_refused(tmp_path, report):
    with pytest.raises(InputError, match="no card and no summary"):
        Report(title="t")
    with pytest.raises(InputError, match="uint8"):
        replace(report, strips=(Strip(caption="x", picture=np.zeros((4, 4, 3))),))
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_report(tmp_path / "r.pdf", report)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        write_report(tmp_path / "file" / "r.html", report)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cards": 3}', '{"cards": [{"label": 1}]}', '{"cards": [7]}'])
def test_what_is_no_report_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError):
        read_cards(tmp_path / "x.json")
    with pytest.raises(InputError):
        read_cards(Path(tmp_path / "absent.json"))


# ---------------------------------------------------------------------------------------------------------------- plots


def points(svg, place=0):
    """The points of a curve, in the picture's coordinates, a list for each piece."""
    path = re.findall(r'<path d="([^"]*)"', svg)[place]
    return [
        [tuple(map(float, one.split())) for one in re.split("L", piece) if one]
        for piece in re.split(" ?M", path.replace("h0", ""))
        if piece
    ]


def ticks(svg, anchor):
    """Places and numbers of the ticks of an axis."""
    rows = re.findall(rf'<text x="([\d.]+)" y="([\d.]+)" text-anchor="{anchor}">([−\d.:]+)</text>', svg)
    return [(float(x), float(y), text) for x, y, text in rows]


def test_a_curve_stands_where_its_axes_say():
    svg = plot.line_plot([plot.Curve(label="c", values={0: 0.0, 10: 5.0, 20: 10.0})], title="T")
    (curve,) = points(svg)
    up = {text: y - 4 for _, y, text in ticks(svg, "end")}
    along = {text: x for x, _, text in ticks(svg, "middle")}
    assert curve[0] == pytest.approx((along["0"], up["0"]), abs=0.2)
    assert curve[1] == pytest.approx((along["10"], (up["0"] + up["10"]) / 2), abs=0.2)
    assert curve[2][1] == pytest.approx(up["10"], abs=0.2)
    assert ">frame<" in svg


def test_seconds_and_minutes():
    values = {i: float(i) for i in range(300)}
    near = plot.line_plot([plot.Curve(label="c", values=values, times={i: i / 24 for i in values})], title="T")
    assert ">seconds<" in near
    far = plot.line_plot([plot.Curve(label="c", values=values, times={i: float(i) for i in values})], title="T")
    assert [text for *_, text in ticks(far, "middle")] == ["0:00", "1:00", "2:00", "3:00", "4:00"]
    assert ">frame<" in plot.line_plot(
        [plot.Curve(label="c", values=values), plot.Curve(label="d", values={}, times={})], title="T"
    )


def test_a_gap_stays_a_gap_and_a_lone_frame_a_dot():
    values = {i: 1.0 + i for i in (0, 1, 2, 3, 7, 8, 9, 20)}
    assert [len(one) for one in points(plot.line_plot([plot.Curve(label="c", values=values)], title="T"))] == [4, 3, 1]
    sparse = dict.fromkeys(range(0, 80, 8), 1.0)
    assert [len(one) for one in points(plot.line_plot([plot.Curve(label="c", values=sparse)], title="T"))] == [10]
    assert plot.line_plot([plot.Curve(label="c", values={5: 2.0})], title="T").count("h0") == 1


def test_a_long_curve_keeps_its_peak():
    values = dict.fromkeys(range(20000), 1.0)
    values[12_345] = 9.0
    svg = plot.line_plot([plot.Curve(label="c", values=values)], title="T")
    (curve,) = points(svg)
    assert len(curve) < 1000
    up = {text: y - 4 for _, y, text in ticks(svg, "end")}
    assert min(y for _, y in curve) == pytest.approx(up["0"] + (up["8"] - up["0"]) * 9 / 8, abs=0.2)
    assert [x for x, _ in curve] == sorted(x for x, _ in curve)


def test_a_legend_names_every_curve_and_no_curve_is_no_plot():
    rows = [plot.Curve(label=f"method {i}", values={0: 1.0, 1: float(i)}) for i in range(9)]
    svg = plot.line_plot(rows, title="T")
    assert all(svg.count(f'class="name" x="{x}"') for x in ("30",))
    assert all(f">method {i}</text>" in svg for i in range(9))
    styles = re.findall(r'<path d="[^"]*" fill="none" stroke="([^"]*)"[^>]*?class="([^"]*)"( stroke-dasharray="[^"]*")?', svg)
    assert len(set(styles)) == 9  # the colours come again, with dashes
    assert plot.line_plot([plot.Curve(label="c", values={0: math.nan})], title="T") == ""
    assert plot.line_plot([], title="T") == ""
    assert plot.interval_plot([], title="T") == ""


def test_colours_can_be_read_in_both_schemes():
    def luminance(code):
        parts = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for scheme, paper in zip(re.findall(r":root{(--ink[^}]*)}", plot.STYLE)[:2], ("#fdfcfa", "#171614"), strict=True):
        colours = dict(re.findall(r"--(\w+):(#\w{6})", scheme))
        for name, code in colours.items():
            high, low = sorted((luminance(code), luminance(paper)), reverse=True)
            contrast = (high + 0.05) / (low + 0.05)
            assert contrast >= (1.2 if name == "rule" else 4.5), (name, contrast)  # WCAG 2.2, 1.4.3


def test_an_interval_stands_where_its_axis_says():
    bars = [plot.Bar(label="a", mean=5.0, low=2.0, high=8.0, points=(0.0, 10.0)), plot.Bar(label="b", mean=1.0, place=1)]
    svg = plot.interval_plot(bars, title="T", unit="dB")
    along = {text: x for x, _, text in ticks(svg, "middle")}
    low, high = (float(one) for one in re.search(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="17"', svg).groups())
    assert (low, high) == pytest.approx((along["2"], along["8"]), abs=0.1)
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)" cy="17"', svg)]
    assert dots == pytest.approx([along["0"], along["10"], (along["4"] + along["6"]) / 2], abs=0.1)
    assert "a 5.000, interval 2.000 to 8.000" in svg


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0.000"),
        (0.9126, 3, "0.913"),
        (-1.5, 2, "−1.50"),
        (0.000433, 3, "0.00043"),
        (0.0123, 3, "0.012"),
        (4.1e-7, 3, "4.10·10⁻⁷"),
        (12345.6, 2, "12 346"),
        (7.2e8, 3, "7.20·10⁸"),
        (1236.0, 0, "1236"),
        (math.nan, 3, "–"),
    ],
)
def test_numbers_as_people_read_them(value, digits, text):
    assert plot.number(value, digits) == text


def test_times_as_people_read_them():
    assert [plot.clock(one) for one in (0, 5.256, 59.999, 3661.5)] == ["0:00.00", "0:05.26", "1:00.00", "1:01:01.50"]
