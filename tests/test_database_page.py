"""The page of plots: what it shows, that names are text in it, and that it is one file."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from filled_store import CELLS, FORMS, SPACE, fill, record, write_images
from sqlalchemy import text, update

from database import Store
from database.reading.agreement import agreement
from database.reading.charts import Series, chart
from database.reading.page import MOST_CURVES, page
from database.schema import DATASETS, PROTOCOLS
from metad2a._axes import ticks
from metad2a.cli import _db_reading
from metad2a.cli.common import Parser
from metad2a.errors import DatabaseError, InputError
from search.labellers.base import Measurement

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = "</style><script>document.title='mine'</script>\"'&"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture
def store(tmp_path, data):
    """Twelve architectures on a task of "dots", whose scores rank them in reverse."""
    with Store(tmp_path / "store.sqlite") as opened:
        opened.tasks = fill(opened, data)
        task = opened.tasks["dots"][0]
        record(opened, task, {number: 0.5 + number / 100 for number in range(12)})
        record(opened, task, {number: -1.5 * number for number in range(12)}, "score-v1")
        yield opened


class Reader(HTMLParser):
    """Collects elements and texts, and knows whether every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(path) -> tuple[Reader, str]:
    html = path.read_text("utf-8")
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader, html


def test_the_page_shows_costs_agreement_and_curves(store, tmp_path):
    path = tmp_path / "new" / "page.html"
    assert page(store, path) == path.stat().st_size
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]
    reader, html = read(path)
    labels = [attrs["aria-label"] for tag, attrs in reader.tags if tag == "svg"]
    assert labels == ["dots: accuracy against MACs", "dots: learning curves"]
    words = " ".join(reader.texts)
    assert "store.sqlite: 3 datasets, 6 tasks, 12 architectures, 24 evaluations." in words
    assert f"12 values. Ringed: 61.0 %, train-v1, {FORMS[11]}" in re.sub(r"\s+", " ", words)
    (dots,) = (attrs["d"] for tag, attrs in reader.tags if attrs.get("class") == "dots c0")
    assert dots.count("h0") == 12
    (lines,) = (attrs["d"] for tag, attrs in reader.tags if attrs.get("class") == "lines c0")
    assert lines.count("M") == 12
    assert html.count(">-1.00<small>12 in 1</small>") == 2


def test_nothing_is_fetched_and_names_are_text(store, tmp_path):
    with store.writing() as connection:
        connection.execute(update(DATASETS).values(name=NASTY))
        connection.execute(update(PROTOCOLS).where(PROTOCOLS.c.id == 1).values(name=NASTY))
    path = tmp_path / "page.html"
    page(store, path)
    reader, html = read(path)
    assert NASTY in [part.strip() for part in reader.texts]
    assert {tag for tag, _ in reader.tags} <= {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "ul",
        "li",
        "i",
        "div",
        "figure",
        "svg",
        "path",
        "text",
        "circle",
        "figcaption",
        "b",
        "code",
        "table",
        "tr",
        "th",
        "td",
        "small",
    }
    names = {name for _, attrs in reader.tags for name in attrs}
    assert not names & {"src", "href", "onload", "onerror", "srcset"}
    assert "url(" not in html and "@import" not in html
    assert set(re.findall(r"https?://[^\"]+", html)) == {"http://www.w3.org/2000/svg"}


def test_an_empty_store_says_so(location, tmp_path):
    with Store(location) as store:
        page(store, tmp_path / "page.html")
    reader, _ = read(tmp_path / "page.html")
    words = " ".join(reader.texts)
    for told in (
        "No accuracies are stored yet.",
        "No learning curves are stored yet.",
        "No two protocols share enough architectures yet.",
    ):
        assert told in words


def test_many_curves_are_thinned_out(store, tmp_path):
    task = store.tasks["stripes"][0]
    store.record(
        task.key,
        SPACE,
        [
            Measurement("train-v1", CELLS[0], seed, seed / 100, 1.0, (0.0, seed / 100))
            for seed in range(MOST_CURVES + 10)
        ],
        "cpu",
        "test 1",
    )
    page(store, tmp_path / "page.html")
    reader, _ = read(tmp_path / "page.html")
    assert "60 of 70 curves." in reader.texts
    assert "70 values. Ringed: 69.0 %, train-v1, " in reader.texts


def test_architectures_that_cannot_be_read_are_left_out(store, tmp_path):
    with store.writing() as connection:
        connection.execute(text("UPDATE architectures SET space = 'lost' WHERE id > 3"))
        connection.execute(text("UPDATE architectures SET canonical = 'x' WHERE id = 3"))
    page(store, tmp_path / "page.html")
    assert "2 values. Ringed" in (tmp_path / "page.html").read_text()


def test_the_database_is_not_overwritten(store, tmp_path):
    with pytest.raises(InputError, match="would overwrite the database"):
        page(store, store.path.parent / "x" / ".." / store.path.name)
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    before = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(DatabaseError, match="Cannot write the page"):
        page(store, tmp_path / "taken")
    assert {entry.name for entry in tmp_path.iterdir()} == before


def test_the_command(store, tmp_path, capsys):
    parser = Parser()
    _db_reading.configure(parser.add_subparsers(dest="action"))
    out = tmp_path / "page.html"
    args = parser.parse_args(["page", str(store.path), str(out), "--json"])
    assert _db_reading.RUN["page"](args) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(out), "bytes": out.stat().st_size}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_in_a_browser_in_light_and_dark(store, tmp_path, scheme):
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page(store, tmp_path / "page.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        shown = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        problems: list[str] = []
        shown.on("console", lambda message: problems.append(message.text))
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((tmp_path / "page.html").as_uri())
        ink, label, paper = (
            shown.evaluate(f"getComputedStyle(document.querySelector('{name}')).{style}")
            for name, style in (("h1", "color"), ("svg text", "fill"), ("body", "backgroundColor"))
        )
        assert shown.evaluate("document.documentElement.scrollWidth") == 390
        browser.close()
    for colour in (ink, label):
        assert contrast(colour, paper) > 4.5
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    assert (problems, len(asked)) == ([], 1)


def luminance(colour: str) -> float:
    """Return the relative luminance of a CSS colour, as WCAG has it."""
    parts = np.array([int(one) for one in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# -- the parts -------------------------------------------------------------------------------


def test_agreement_is_the_mean_of_the_tasks_by_shared_architectures(store):
    other = store.tasks["dots"][1]
    values = {number: number / 20 for number in range(6)}
    record(store, other, values)
    record(store, other, {**values, 9: 1e9}, "score-v1")
    few = store.tasks["stripes"][0]
    record(store, few, {0: 0.1, 1: 0.2})
    record(store, few, {0: 1, 1: 2}, "score-v1")
    flat = store.tasks["stripes"][1]
    record(store, flat, dict.fromkeys(range(6), 0.5))
    record(store, flat, values, "score-v1")
    ((pair, found),) = agreement(store).items()
    assert pair == ("score-v1", "train-v1")
    assert (found.tasks, found.shared) == (2, 18)
    assert found.spearman == pytest.approx((6 * 1 - 12 * 1) / 18)


def test_ties_share_their_rank(store):
    from scipy.stats import spearmanr

    task = store.tasks["stripes"][0]
    accuracies = [0.1, 0.1, 0.2, 0.3, 0.3, 0.3, 0.0]
    scores = [1.0, 4.0, 4.0, 2.0, 9.0, 9.0, 0.5]
    record(store, task, dict(enumerate(accuracies)))
    record(store, task, dict(enumerate(scores)), "score-v1")
    (found,) = agreement(store).values()  # with the twelve of the fixture, which are in reverse
    rank = spearmanr(accuracies, scores).statistic
    assert found.spearman == pytest.approx((7 * rank - 12) / 19)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 25, 50, 75, 100]),
        (0.31, 0.99, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (5, 5, [4.5, 4.75, 5, 5.25, 5.5]),
        (0, 0, [-0.1, -0.05, 0, 0.05, 0.1]),
        (-3, 8, [-5, 0, 5, 10]),
    ],
)
def test_ticks_are_round_and_hold_the_values(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_marks_lie_inside_the_axes_where_their_values_say():
    drawn = chart(
        [Series(9, [[(3.0, 1.0)], [(5.0, 2.0)], [(3.0, 1.0), (4.0, 1.5), (5.0, 2.0)]])],
        "x & y",
        "up",
        "a <chart>",
        mark=(5.0, 2.0),
    )
    assert 'class="dots c1"' in drawn and 'class="lines c1"' in drawn
    assert "x &amp; y" in drawn and "a &lt;chart&gt;" in drawn
    (line,) = re.findall(r'class="lines c1" d="M([^"]+)"', drawn)
    first, middle, last = (np.array(place.split(), float) for place in line.split("L"))
    assert first == pytest.approx(2 * middle - last, abs=0.2)  # on a straight line
    assert first[0] < last[0] and first[1] > last[1]  # to the right, and up
    (ring,) = re.findall(r'cx="([^"]+)" cy="([^"]+)"', drawn)
    assert np.array(ring, float) == pytest.approx(last)
    (size,) = re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    assert (first > 0).all() and (np.stack([first, last]) < np.array(size, float)).all()
