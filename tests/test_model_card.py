"""The model card: complete, valid for the Hub, true to its figures, and inert."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import ModelCard

from metad2a.model.card import FIGURES, contradictions, escape, model_card, stated
from metad2a.model.description import STATISTICS
from metad2a.model.figures import Figures, Row
from metad2a.model.metad2a import packaged
from metad2a.model.records import Record

FIGURES_OF_A_TEST = Figures(
    trainings=40,
    tasks=4,
    families=2,
    coverage=0.8765,
    by_family={"letters": 0.75},
    width=31.6,
    rows=(Row("model", 0.61249, 1.2951, 6.84), Row("random", 0.5, 2.0, None)),
)
HOSTILE = "<img src=x onerror=alert(1)>|**x**`y`[a](http://b.c)\n# www.d.e \x1b[2J\u202e"


def card_of(*names: str, figures: Figures = FIGURES_OF_A_TEST, protocol: str = "p-v1") -> str:
    statistics = np.ones(len(STATISTICS))
    tasks = [
        SimpleNamespace(
            dataset=name, family=name[:7], redraws=[SimpleNamespace(statistics=statistics)]
        )
        for name in names
    ]
    records = [Record(*([protocol] * len(Record.__dataclass_fields__)))]
    return model_card("nasbench201", "standalone-v1", records, tasks, figures)


@pytest.mark.parametrize(
    "card", [packaged().card, card_of("letters1", "pets2")], ids=["packaged", "made here"]
)
def test_a_card_is_complete_and_its_head_valid(card):
    head = ModelCard(card).data
    assert (head.license, head.library_name, head.pipeline_tag) == (
        "apache-2.0",
        "metad2a",
        "image-classification",
    )
    assert head.tags == ["neural-architecture-search", "meta-learning", "nasbench201"]
    assert head.model_name == "MetaD2A for nasbench201"
    for part in (
        "## How to load it",
        'model="org/name"',
        "MetaD2A.from_pretrained(",
        "--model",
        "## What it was trained on",
        "## What it reaches",
        "## Limits",
        "## Licence",
        "Apache-2.0",
        "CIFAR-10 was never used",
        "measurements on",
        "| model |",
    ):
        assert part in card
    assert set(stated(card)) == set(FIGURES)
    assert contradictions(card) == []
    # No line of the head leaves what every YAML reader takes.
    assert "\t" not in card and card.endswith("\n")


def test_the_head_states_the_figures():
    card = card_of("letters1", "pets2")
    assert stated(card) == {
        "coverage": 87.6,
        "width": 32,
        "concordance": 0.612,
        "regret": 1.3,
        "error": 6.8,
    }
    assert "| letters | letters1 | 75% |" in card
    assert "| pets2 | pets2 | not judged |" in card


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("**87.6%**", "**97.6%**", "'**87.6%** of the trainings'"),
        ("32 points wide", "3 points wide", "32 points wide"),
        ("| model | 0.612", "| model | 0.912", "| model | 0.612 | 1.30 | 6.8 |"),
        ("value: 87.6", "value: 97.6", "**97.6%**"),
        ("{type: coverage, value: 87.6", "{type: coverage, value: 'very good'", "'coverage'"),
        ("{type: coverage, value: 87.6", "{type: coverage, value: true", "'coverage'"),
        ("{type: coverage, value: 87.6", "{type: coverage, value: .nan", "'coverage'"),
        ("model-index:", "index:", "no figure 'width'"),
        ("  results:", "  results: [", "no figure 'width'"),
        ("---\n", "", "no figure 'width'"),
    ],
)
def test_head_and_text_that_part_are_named(old, new, told):
    card = card_of("letters1")
    assert old in card
    problems = contradictions(card.replace(old, new, 1))
    assert problems and told in "\n".join(problems)


@pytest.mark.parametrize(
    "card",
    [
        "",
        "---",
        "---\n---\n",
        "---\n- a\n---\n",
        "---\n" + "[" * 10**5 + "\n---\n",
        "---\n" + "a: &a [x]\n" * 9 + "---\n",
        "---\nmodel-index: 5\n---\n",
        "---\nmodel-index:\n- {name: a, results: [{}]}\n---\n",
        "no head at all",
        "---\nmodel-index:\n- name: x\n  results:\n  - {task: 1, dataset: 2, metrics: 3}\n---\n",
    ],
    ids=range(10),
)
def test_heads_of_strangers_state_nothing(card):
    assert stated(card) == {}
    assert len(contradictions(card)) == len(FIGURES)


def test_names_are_shown_as_text():
    card = card_of(HOSTILE, protocol=HOSTILE)
    body = card.split("\n---\n", 1)[1]
    for active in ("<img", "**x**", "`y`", "[a](", "http://", "www.", "\x1b", "\u202e", "|**"):
        assert active not in body, active
    assert escape("a|b") == r"a\|b" and escape("x_1 - y") == r"x\_1 - y"
    rows = [line for line in body.splitlines() if "onerror" in line]
    assert len(rows) == 2  # one protocol, one dataset: no name breaks its line
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 4]
    assert stated(card) and len(escape("x" * 999)) < 110


def test_it_says_only_what_is_true():
    assert "CIFAR-10" not in card_of("letters1", "cifar10")
    # A figure that was not worked out is not stated, and not JSON or YAML of its own kind.
    without = replace(FIGURES_OF_A_TEST, rows=(Row("model", float("nan"), 1.0, None),))
    card = card_of("letters1", figures=without)
    assert set(stated(card)) == {"coverage", "width", "regret"}
    json.dumps(stated(card), allow_nan=False)
