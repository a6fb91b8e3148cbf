"""What notebooks show, and the tutorial, which runs from top to bottom as a user's notebook does."""

from __future__ import annotations

import ast
import json
from html.parser import HTMLParser
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import page_outlook
import pytest

from metad2a import load_dataset, suggest, train
from metad2a.spaces import SPACES
from search.result import SearchResult

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
NASTY = '"><img src=x onerror=alert(1)>'


class Reader(HTMLParser):
    """Collects the tags and the words of markup."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Any:
    page_outlook.put_in_place(monkeypatch.setattr)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    return load_dataset(pixels, np.arange(30) % 3, classes=[NASTY, "b", "c"])


def test_suggestions_are_a_table_with_a_drawing_of_each(images: Any) -> None:
    result = suggest(images, k=3)
    shown = Reader(result._repr_html_())
    assert shown.tags.count("tr") == 1 + len(result) and shown.tags.count("svg") == len(result)
    for one in result:
        assert "Smallest within 3 points" in shown.text
        assert f"{one.accuracy:.1f} %" in shown.text and f"{one.bytes / 1e6:.1f} MB" in shown.text
    drawing = result[0].draw()
    assert drawing._repr_svg_() == drawing and drawing.startswith("<svg ")


def test_a_trained_network_is_figures_and_pictures(images: Any) -> None:
    trained = train(images, minutes=0.05)
    shown = Reader(trained._repr_html_())
    assert f"{trained.accuracy:.1f} % of {trained.evaluation.images} images held out" in shown.text
    assert "What is taken for what" in shown.text and "svg" in shown.tags
    assert NASTY[:10] in shown.text and "img" not in shown.tags, "names are text"


def test_what_a_search_found_is_facts_and_a_drawing() -> None:
    space = SPACES.get("nasbench201")
    cell = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|"
    found = SearchResult(
        space="nasbench201",
        method="spos",
        architecture=cell,
        scores=MappingProxyType({cell: 0.5}),
        accuracy=0.5,
        protocol="supernet-v1",
        cost=space.cost(space.parse(cell), 3),
        width=1.0,
        depth=2,
        seconds=1.0,
        images=10,
        steps=2,
        complete=False,
        seed=0,
        device="cpu",
        classes=3,
        macro=MappingProxyType({}),
        history=({"note": NASTY},),
    )
    shown = Reader(found._repr_html_())
    assert "50.0 %" in shown.text and "(cancelled)" in shown.text and NASTY in shown.text
    assert shown.tags.count("svg") == 1 and "img" not in shown.tags
    assert found.draw()._repr_svg_() == found.draw()


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last expression, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(TUTORIAL), "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), str(TUTORIAL), "eval"), names)


def test_the_tutorial_runs_from_a_folder_to_a_network_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "tutorial"}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs of one machine are not kept"
            shown.append(run("".join(cell["source"]), names))
    assert (tmp_path / "network" / "model.onnx").is_file()
    assert any(hasattr(one, "_repr_html_") for one in shown)
    assert any(hasattr(one, "_repr_svg_") for one in shown)
    labels = shown[-1]
    assert len(labels) == 3
    for path, label in labels.items():
        (told,) = names["trained"].predict(path)
        assert told.label == label, "the file in use says what the trained network says"
