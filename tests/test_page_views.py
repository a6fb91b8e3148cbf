"""What the page and the report show: names of strangers as text, charts, files to take along."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import page_outlook
import pytest

from metad2a import InputError, load_dataset
from metad2a.candidate import Measured
from metad2a.page import charts, states, values
from metad2a.page.bench import Running, Waiting
from metad2a.page.charts import Mark, front, trade_off
from metad2a.page.choices import NEAR, choices
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import Described, describe_source
from metad2a.page.downloads import FILES, table
from metad2a.page.events import AUTOMATIC, Events
from metad2a.page.report import report
from metad2a.page.result_view import list_view, offered, suggestion_view
from metad2a.page.searching import Found, because
from metad2a.page.trained_view import answer_view, trained_view
from metad2a.page.training import TrainedHere
from metad2a.page.visit import Visit
from metad2a.prediction import Prediction
from metad2a.result import CostLimits, Suggestions
from metad2a.settings import LIMITS

INTERNAL = re.compile(
    r"nor_conv|skip_connect|avg_pool_|standalone-v\d|finetune-v\d|probe-v\d|scratch-v\d|r\d+-s\d-d\d"
)
"""Names that programs have for networks and ways of training, and that tell a user nothing."""
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


def read(space: str) -> Described:
    """Describe a small dataset with names that mean harm."""
    import metad2a.page.described as module

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(24) % 3, classes=[NASTY, "=cmd()", "c"])
    dataset.name = NASTY
    original = module.open_source
    module.open_source = lambda *_: dataset
    try:
        return describe_source("nasty", False, space)
    finally:
        module.open_source = original


@pytest.fixture(scope="module")
def described() -> Described:
    return read("nasbench201")


@pytest.fixture(scope="module")
def pieces() -> Iterator[Described]:
    with pytest.MonkeyPatch.context() as patch:
        page_outlook.put_in_place(patch.setattr)
        yield read(values.SPACE)


def training(visit: Visit, folder: Path, rank: int = 1, **told: Any) -> TrainedHere:
    """Return what a training of a network of the list might have brought."""
    one = visit.result[rank - 1]
    return TrainedHere(
        folder,
        {"README.md": 1_000, "model.safetensors": 3_000_000},
        (f"left out: {NASTY}",),
        {
            "network": {
                "space": one.space,
                "architecture": one.architecture,
                "params": one.params,
                "macs": one.macs,
                "resolution": one.resolution,
            },
            "plan": {
                "rate": 0.002,
                "frozen_stages": 0,
                "batch_norm": "kept",
                "epochs": 2.0,
                "reason": NASTY,
            },
            "accuracy": 75.0,
            "balanced_accuracy": 70.0,
            "predicted": one.accuracy,
            "interval": list(one.interval),
            "images": 12,
            "epochs": 2.0,
            "seconds": 6.0,
            "partial": False,
            "test_images": 12,
            "classes": list(one.class_names),
            "curve": [[0.0, None], [1.0, 50.0], [2.0, 75.0]],
            "tried": [],
            "files": [],
            **told,
        },
        np.array([[4, 0, 0], [2, 2, 0], [1, 0, 3]]),
        False,
    )


def measured(visit: Visit, *ranks: int) -> Found:
    """Return what a check might have found: these networks first, each worse than the last."""
    found = [
        replace(visit.result[rank - 1], measured=Measured(60.0 - place, "a check", 1.0, (50.0,)))
        for place, rank in enumerate(ranks)
    ]
    return Found([replace(one, reason=because(one)) for one in found], 1.0)


def test_w_names_are_text_on_the_page_and_in_the_report(
    described: Described, pieces: Described, tmp_path: Path
) -> None:
    assert_harmless(dataset_view(described))
    for one in (described, pieces):
        visit = Visit(one, 3)
        visit.learnt(training(visit, tmp_path))
        assert_harmless(suggestion_view(visit.result))
        assert_harmless(list_view(visit.result, visit.k))
        assert_harmless(trained_view(training(visit, tmp_path)))
        page = report(visit)
        assert_harmless(page)
        assert "Content-Security-Policy" in page and "http" not in re.sub(
            r'xmlns="http://www.w3.org/2000/svg"|http-equiv', "", page
        ), "nothing from outside"
    assert_harmless(
        answer_view(
            Prediction("image 0", NASTY, 0.9, ((NASTY, 0.9), ("c", 0.1))), "data:image/png,"
        )
    )
    assert_harmless(states.problem("This cannot be used", f"Class {NASTY} is empty."))
    assert_harmless(states.reading(NASTY))
    drawn = charts.curves([(NASTY, [(0.0, 1.0), (1.0, 2.0)])], NASTY, "up")
    assert_harmless(drawn)
    ET.fromstring(drawn)


def test_p14_a_name_of_ten_thousand_letters_is_cut(described: Described) -> None:
    long = replace(described, counts=(("x" * 10_000, 5), *described.counts[1:]))
    assert len(dataset_view(long)) < len(dataset_view(described)) + 2_000


def test_w_a_table_holds_no_formula(described: Described) -> None:
    rows = [["=cmd()", "+1", "-1", "@x", "\t=1", " =1", "\r=1", "fine", NASTY, -5]]
    read = next(csv.reader(io.StringIO(table(rows).decode("utf-8-sig"), newline="")))
    assert read == ["'=cmd()", "'+1", "'-1", "'@x", "'\t=1", "' =1", "'\r=1", "fine", NASTY, "-5"]
    made = FILES["csv"][2](Visit(described, 2), described.first[0])
    lines = list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"))))
    ranks = [int(line["rank"]) for line in lines]
    assert ranks == list(range(1, len(ranks) + 1)) and len(ranks) >= 2
    assert lines[0]["dataset"] == NASTY
    assert lines[0]["classes"] == f"{NASTY}; =cmd(); c" and lines[0]["resolution, px"] == "32"


def test_files_are_what_they_say(described: Described, pieces: Described) -> None:
    for one in (described, pieces):
        visit = Visit(one, 3)
        chosen = visit.result[1]
        made = {kind: FILES[kind][2](visit, chosen) for kind in ("code", "svg", "json")}
        compile(made["code"], "model.py", "exec")
        assert repr(NASTY) in made["code"].decode(), "the names of the classes are in it"
        assert ET.fromstring(made["svg"]).tag.endswith("svg")
        told = json.loads(made["json"])
        ranks = [c["rank"] for c in told["candidates"]]
        assert ranks == list(range(1, len(ranks) + 1)) and len(ranks) >= 3
        assert told["classes"] == [NASTY, "=cmd()", "c"]
    assert "onnx" not in FILES, "an untrained network is no result"


def seen(visit: Visit) -> str:
    """Return the words of the answer and the list, as a visitor reads them."""
    return Reader(
        suggestion_view(visit.result, visit.searched)
        + list_view(visit.result, visit.k, visit.searched)
    ).text


def test_limits_are_obeyed_without_reading_again(described: Described) -> None:
    visit = Visit(described, 5)
    visit.limit(4, CostLimits(max_macs=40_000_000))
    assert visit.k >= 4 and all(one.macs <= 40_000_000 for one in visit.result)
    assert [one.rank for one in visit.result] == list(range(1, len(visit.result) + 1))
    values = [one.accuracy for one in visit.result[:4]]
    assert values == sorted(values, reverse=True)
    front = {one.architecture for one in visit.result.front.values()}
    assert front <= {one.architecture for one in visit.result[: visit.k]}
    assert "your limit" in seen(visit) and "within 40 M MACs" in seen(visit)
    most = visit.result[0].params - 1
    visit.limit(4, CostLimits(max_params=most))
    assert all(one.params <= most for one in visit.result)
    assert f"within a file of {4 * most / 1e6:.1f} MB" in seen(visit)


def test_a_limit_on_the_time_of_a_picture_is_measured_and_said(
    described: Described, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metad2a import latency

    monkeypatch.setattr(
        latency, "measure", lambda space, cell, classes: space.cost(cell, classes).macs / 1e7
    )
    events, visit = Events(cast("Any", None), cast("Any", None), None), Visit(described, 3)
    shown = events.limit(visit, 3, 1e6, 1e6, 6.0)
    assert all(one.macs <= 60_000_000 for one in visit.result)
    text = Reader(shown["result"] + shown["list"]).text
    assert "within 6 ms a picture" in text and "one picture takes here" in text
    assert events.limit(visit, 3, 1e6, 1e6, 6.0) == {}, "nothing is timed again for nothing"
    refused = events.limit(visit, 3, 1e6, 1e6, 0.001)
    text = Reader(refused["result"]).text
    assert "No network fits" in text and "0.001 ms cannot be met" in text and "max_" not in text
    assert events.limit(visit, 3, 1e6, 1e6, 6.0)["result"] == shown["result"]
    assert "a number of milliseconds" in events.limit(visit, 3, 1e6, 1e6, -1)["result"]


def revised(described: Described, *rows: tuple[float, int, int]) -> Suggestions:
    """Return suggestions of given accuracy, parameters and MACs."""
    return described.first.revised(
        [
            replace(one, accuracy=accuracy, params=params, macs=macs)
            for one, (accuracy, params, macs) in zip(described.first, rows, strict=False)
        ],
        0.0,
    )


def test_of_a_tie_the_cheapest_is_suggested_and_smaller_and_faster_stand_beside(
    described: Described,
) -> None:
    close = 90.0 - described.first.answers.noise(90.0) / 2
    rows = [
        (90.0, 900, 900),
        (close, 800, 500),
        (close - NEAR + 0.1, 100, 490),
        (close - NEAR + 0.1, 790, 50),
        (close - NEAR - 0.1, 10, 10),
    ]
    result = revised(described, *rows)
    found = choices(result)
    assert (found.best.rank, found.ties) == (2, (1,))
    assert found.smaller is not None and found.smaller.rank == 3
    assert found.faster is not None and found.faster.rank == 4
    shown = Reader(suggestion_view(result))
    assert "A tie. Network 1 cannot be told apart" in shown.text
    for words in ("Network 2", "Smaller: network 3", "Faster: network 4", "about 2.9 points less"):
        assert words in shown.text, words
    buttons = [attributes["data-rank"] for tag, attributes in shown.tags if tag == "button"]
    assert buttons == ["2", "3", "4"]
    assert [one.rank for one in offered(result, 1)] == [1, 2, 3, 4], "what is offered is listed"
    # Measured best is best, whatever was expected.
    assert (choices(result, searched=True).best.rank, choices(result, searched=True).ties) == (
        1,
        (),
    )
    alone = revised(described, (90.0, 100, 100), (80.0, 10, 10))
    found = choices(alone)
    assert (found.ties, found.smaller, found.faster) == ((), None, None)
    assert "None that was compared" in Reader(suggestion_view(alone)).text
    both = revised(described, (90.0, 100, 100), (87.5, 10, 10))
    assert "Smaller and faster: network 2" in Reader(suggestion_view(both)).text


def test_a_user_reads_no_internal_names(
    described: Described, pieces: Described, tmp_path: Path
) -> None:
    for one in (described, pieces):
        visit = Visit(one, 5)
        visit.found(measured(visit, 2))
        trained = training(visit, tmp_path)
        trained.told["plan"]["reason"] = "trained; predicted under the protocol standalone-v1"
        visit.learnt(trained)
        for shown in (seen(visit), Reader(report(visit)).text):
            assert not INTERNAL.search(shown), INTERNAL.search(shown)


def test_what_may_be_uploaded_is_said_before() -> None:
    told = Reader(states.may_be_given()).text
    for words in (f"{LIMITS.upload_bytes / 1e6:.0f} MB", f"{LIMITS.archive_members:,} files"):
        assert words in told
    assert f"{LIMITS.min_classes} to {LIMITS.max_classes:,} classes" in told and "an hour" in told


def test_measurements_survive_other_limits_and_reasons_agree_with_ranks(
    described: Described,
) -> None:
    visit = Visit(described, 5)
    checked = measured(visit, 4, 2)
    names = [one.architecture for one in checked.candidates]
    visit.found(checked)
    assert [one.architecture for one in visit.result[:2]] == names
    assert len(visit.result) == len(described.first)
    most = min(one.macs for one in checked.candidates)
    for limit in (None, most, None):
        visit.limit(5, CostLimits(max_macs=limit))
        kept = [one for one in visit.result if one.measured]
        wanted = [one for one in checked.candidates if one.macs <= (limit or one.macs)]
        assert [one.architecture for one in kept] == [one.architecture for one in wanted]
        assert [one.rank for one in visit.result] == list(range(1, len(visit.result) + 1))
        assert visit.result[0].reason.startswith(f"{kept[0].measured.accuracy:.1f} % measured here")
        assert visit.result[len(kept)].reason.startswith("not measured; predicted")
    # A second search comes to the front; what the first one measured stays.
    visit.found(measured(visit, 5))
    assert [one.measured is not None for one in visit.result[:4]] == [True, True, True, False]
    assert [label for label, _ in visit.lines] == ["1", "2", "3"]


def test_what_a_training_reached_stands_beside_the_prediction(
    pieces: Described, tmp_path: Path
) -> None:
    visit = Visit(pieces, 5)
    ranks = [one.architecture for one in visit.result]
    assert visit.learnt(training(visit, tmp_path, rank=2)) is None
    for limit in (visit.result[1].macs, visit.result[0].macs - 1, None):
        visit.limit(5, CostLimits(max_macs=limit))
        row = next(one for one in visit.result[: visit.k] if one.architecture == ranks[1])
        assert row.measured is not None and row.measured.accuracy == 75.0
        assert all(one.macs <= (limit or one.macs) for one in visit.result)
        names = [one.architecture for one in visit.result]
        assert len(names) == len(set(names))
    visit.limit(5, CostLimits(max_macs=visit.result[1].macs - 1))
    assert ranks[1] not in [one.architecture for one in visit.result]
    visit.limit(5, CostLimits())
    assert [one.architecture for one in visit.result] == ranks, "the order is the predictions'"
    # The list knows of it, and how it was trained.
    (known,) = visit.result.answers.results
    assert (known.accuracy, known.judged) == (75.0, 12)
    assert (known.recipe.rate, known.recipe.epochs) == (0.002, 2.0)
    assert "75.0 %" in seen(visit) and "The order is by what was expected" in seen(visit)
    told = Reader(trained_view(visit.trained)).text
    for words in ("75.0", "70.0 %", f"{row.accuracy:.1f}", "=cmd() → ", "held out", "3.0 MB"):
        assert words in told, words
    assert NASTY in told
    assert visit.learnt(training(visit, tmp_path, partial=True)) is not None, "the one before"
    assert "stopped before its end" in Reader(trained_view(visit.trained)).text


def test_rows_open_and_choose_their_network(described: Described) -> None:
    visit = Visit(described, 3)
    listed = offered(visit.result, visit.k)
    rows = Reader(list_view(visit.result, visit.k))
    opened = [attributes for tag, attributes in rows.tags if attributes.get("class") == "net"]
    assert [one["data-rank"] for one in opened] == [str(one.rank) for one in listed]
    assert not any("open" in one for one in opened), "no row of drawings that look alike"
    assert [tag for tag, _ in rows.tags].count("svg") == len(listed) + 1, "and the chart"
    events = Events(cast("Any", None), cast("Any", None), None)
    shown = events.choose(visit, 2)
    assert shown["chosen"] == shown["network"] == {"value": 2} and 'data-rank="2"' in shown["mark"]
    for rank in (0, 999, None, cast("Any", "2")):
        assert events.choose(visit, rank) == {}


def test_only_pretrained_networks_are_chosen_for_the_time(
    described: Described, pieces: Described
) -> None:
    from metad2a.page.events import _listed, _named

    cells, networks = Visit(described, 3), Visit(pieces, 3)
    numbers = [number for _, number in _listed(cells)["network"]["choices"]]
    assert numbers[:3] == [1, 2, 3] and AUTOMATIC not in numbers
    assert _listed(networks)["network"]["value"] == AUTOMATIC
    assert _named(networks, AUTOMATIC) is None
    assert _named(cells, 2) == cells.result[1].architecture
    for visit, number in ((cells, AUTOMATIC), (networks, 9), (networks, None)):
        with pytest.raises(InputError, match="There is no network"):
            _named(visit, number)


def test_the_chart_draws_the_front_and_joins_marks_that_hide_one_another() -> None:
    assert front([(1, 5), (2, 4), (2, 6), (3, 6), (4, 7)]) == [(1, 5), (2, 6), (4, 7)]
    marks = [Mark(1, 100, 90), Mark(2, 100, 90), Mark(3, 20, 80, (70, 88))]
    drawn = trade_off([(10, 50.0)], marks, 120)
    found = ET.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    ranks = [text.text for text in found.iter(f"{space}text") if text.get("class") == "rank"]
    assert sorted(ranks) == ["1–2", "3"]
    kinds = [path.get("class") for path in found.iter(f"{space}path")]
    assert kinds.count("limit") == 1 and kinds.count("interval") == 1


@pytest.mark.parametrize(
    ("accuracies", "least", "most"),
    [((96.5, 96.9), 80, 100), ((50.1, 50.3), 40, 65), ((0.2, 0.4), 0, 20), ((10, 90), 0, 100)],
)
def test_the_chart_does_not_magnify_noise(
    accuracies: tuple[float, float], least: float, most: float
) -> None:
    low, high = accuracies
    drawn = ET.fromstring(trade_off([], [Mark(1, 10, high), Mark(2, 20, low)], None))
    texts = drawn.iter("{http://www.w3.org/2000/svg}text")
    numbers = [float(text.text or "") for text in texts if text.get("text-anchor") == "end"]
    assert max(numbers) - min(numbers) >= 20, "a point is at most a twentieth of the height"
    assert least <= min(numbers) <= low and high <= max(numbers) <= most


def test_a_job_says_where_it_stands() -> None:
    waiting = Reader(states.waiting(Waiting(2, 130.0))).text
    assert "2 jobs are before yours" in waiting and "2 min" in waiting
    losses = ((0.1, 2.0), (0.2, 1.5), (0.3, 1.2))
    running = Reader(states.running(Running(0.5, "DropNas", 30.0, 30.0, False, losses)))
    assert "Searching" in running.text and "at most 30 s left" in running.text
    bar = next(attributes for _, attributes in running.tags if "aria-valuenow" in attributes)
    assert bar["aria-valuenow"] == "50"
    assert [tag for tag, _ in running.tags].count("svg") == 1
    trained = Reader(
        states.running(
            Running(0.5, "training", 30.0, 95.0, True, losses, 1.0, 4.0, ((0.0, 40.0), (1.0, 60.0)))
        )
    )
    for words in ("Training", "about 2 min left", "epoch 1.0 of 4.0", "loss 1.20", "60.0\u00a0%"):
        assert words in trained.text, words
    assert [tag for tag, _ in trained.tags].count("svg") == 2
    late = Reader(states.running(Running(1.0, "judging", 70.0, 0.0, False))).text
    assert "0 s left" not in late and "Judging by the test images" in late
    early = Reader(states.running(Running(0.0, "reading", 2.0, 70.0, False))).text
    assert "left" not in early, "how long starting takes is not known"
