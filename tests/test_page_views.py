"""What the page and the report show: names of strangers as text, charts, files to take along."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from metad2a import load_dataset
from metad2a.page import charts, states
from metad2a.page.bench import Running, Waiting
from metad2a.page.charts import Mark, front, trade_off
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import Described, describe_source
from metad2a.page.downloads import FILES, table
from metad2a.page.report import report
from metad2a.page.result_view import result_view
from metad2a.page.visit import Visit

NASTY = '"><img src=x onerror=alert(1)><script>x</script>{{1}}${2}'


class Reader(HTMLParser):
    """Collects what a browser would make of markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(markup: str) -> None:
    found = Reader(markup)
    for tag, attributes in found.tags:
        assert tag not in ("script", "iframe", "object", "base", "link", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert NASTY in found.text, "the name is there, as text"


@pytest.fixture(scope="module")
def described() -> Described:
    import metad2a.page.described as module

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(24) % 3, classes=[NASTY, "=cmd()", "c"])
    dataset.name = NASTY
    original = module.open_source
    module.open_source = lambda *_: dataset
    try:
        return describe_source("nasty", False)
    finally:
        module.open_source = original


def test_w_names_are_text_on_the_page_and_in_the_report(described: Described) -> None:
    assert_harmless(dataset_view(described))
    page = report(described, described.first, 3)
    assert_harmless(page)
    assert "Content-Security-Policy" in page and "http" not in re.sub(
        r'xmlns="http://www.w3.org/2000/svg"|http-equiv', "", page
    ), "nothing from outside"
    assert_harmless(states.problem("This cannot be used", f"Class {NASTY} is empty."))
    assert_harmless(states.reading(NASTY))
    drawn = charts.curves([(NASTY, [(0.0, 1.0), (1.0, 2.0)])], NASTY, "up")
    assert_harmless(drawn)
    ET.fromstring(drawn)


def test_p14_a_name_of_ten_thousand_letters_is_cut(described: Described) -> None:
    from dataclasses import replace

    long = replace(described, counts=(("x" * 10_000, 5), *described.counts[1:]))
    assert len(dataset_view(long)) < len(dataset_view(described)) + 2_000


def test_w_a_table_holds_no_formula(described: Described) -> None:
    rows = [["=cmd()", "+1", "-1", "@x", "\t=1", " =1", "\r=1", "fine", NASTY, -5]]
    read = next(csv.reader(io.StringIO(table(rows).decode("utf-8-sig"), newline="")))
    assert read == ["'=cmd()", "'+1", "'-1", "'@x", "'\t=1", "' =1", "'\r=1", "fine", NASTY, "-5"]
    made = FILES["csv"][2](described, described.first, 2, described.first[0])
    lines = list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"))))
    assert [line["rank"] for line in lines] == ["1", "2"] and lines[0]["dataset"] == NASTY


def test_files_are_what_they_say(described: Described) -> None:
    chosen = described.first[1]
    made = {
        kind: FILES[kind][2](described, described.first, 3, chosen)
        for kind in ("code", "svg", "json")
    }
    compile(made["code"], "model.py", "exec")
    assert ET.fromstring(made["svg"]).tag.endswith("svg")
    assert [c["rank"] for c in json.loads(made["json"])["candidates"]] == [1, 2, 3]


def test_limits_are_obeyed_without_reading_again(described: Described) -> None:
    visit = Visit(described, described.first, 5)
    visit.limit(4, None, 40_000_000)
    assert visit.k == 4 and all(one.macs <= 40_000_000 for one in visit.result)
    assert [one.rank for one in visit.result] == list(range(1, len(visit.result) + 1))
    values = [one.accuracy for one in visit.result]
    assert values == sorted(values, reverse=True)
    shown = Reader(result_view(visit.result, 4))
    assert "your limit" in shown.text and "at most 40,000,000 MACs" in shown.text


def test_the_chart_draws_the_front_and_joins_marks_that_hide_one_another() -> None:
    assert front([(1, 5), (2, 4), (2, 6), (3, 6), (4, 7)]) == [(1, 5), (2, 6), (4, 7)]
    drawn = trade_off([(10, 50.0)], [Mark(1, 100, 90), Mark(2, 100, 90), Mark(3, 20, 80)], 120)
    found = ET.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    ranks = [text.text for text in found.iter(f"{space}text") if text.get("class") == "rank"]
    assert sorted(ranks) == ["1–2", "3"]
    assert [path.get("class") for path in found.iter(f"{space}path")].count("limit") == 1


def test_a_job_says_where_it_stands() -> None:
    waiting = Reader(states.waiting(Waiting(2, 130.0))).text
    assert "2 jobs are before yours" in waiting and "2 min" in waiting
    losses = ((0.1, 2.0), (0.2, 1.5), (0.3, 1.2))
    running = Reader(states.running(Running(0.5, "DropNas", 30.0, losses), 1.0))
    assert "Searching" in running.text and "30 s left" in running.text
    bar = next(attributes for _, attributes in running.tags if "aria-valuenow" in attributes)
    assert bar["aria-valuenow"] == "50"
    assert [tag for tag, _ in running.tags].count("svg") == 1
