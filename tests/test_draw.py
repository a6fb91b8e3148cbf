"""Drawings: well-formed, complete, escaped, and free of lines that run over each other."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from metad2a.draw import Edge, draw_cell, mermaid, svg
from metad2a.errors import InputError
from metad2a.spaces import SPACES, SearchSpace, WeightSharing
from metad2a.spaces.sketch import Block

SPACE = SPACES.get("nasbench201")
DARTS = SPACES.get("darts")
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('avg_pool_3x3', 1), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)
NS = "{http://www.w3.org/2000/svg}"
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"


def labels(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{NS}text")]


def numbers(path: ElementTree.Element) -> list[float]:
    return [float(x) for x in path.attrib["d"].replace("M", "").replace("C", " ").split()]


def test_every_operation_but_none_is_drawn_and_named() -> None:
    root = ElementTree.fromstring(svg(SPACE, CELL, title="First"))
    assert sorted(labels(root)) == sorted(
        ["First", "in", "1", "2", "out", "conv 3×3", "conv 3×3", "conv 1×1", "skip", "pool 3×3"]
    )
    assert len(list(root.iter(f"{NS}circle"))) == 4
    assert len(list(root.iter(f"{NS}path"))) == len(list(root.iter(f"{NS}polygon"))) == 5
    assert root.attrib["aria-label"] == f"First: {CELL}"


def test_string_and_tuple_give_the_same_drawing() -> None:
    assert svg(SPACE, CELL) == svg(SPACE, SPACE.parse(CELL))


def test_one_colour_an_operation() -> None:
    for cell in [(3,) * 6, (1, 2, 3, 4, 1, 2)]:
        root = ElementTree.fromstring(svg(SPACE, cell))
        colours = {path.attrib["stroke"] for path in root.iter(f"{NS}path")}
        assert len(colours) == len(set(cell))


def test_cells_share_one_frame_and_stay_inside() -> None:
    rng = np.random.default_rng(0)
    frames = set()
    for cell in [(0,) * 6, (3,) * 6, *(SPACE.sample(rng) for _ in range(20))]:
        root = ElementTree.fromstring(svg(SPACE, cell))
        frames.add(root.attrib["viewBox"])
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for text in root.iter(f"{NS}text"):
            assert 0 < float(text.attrib["x"]) < width
            assert 10 < float(text.attrib["y"]) < height
    assert len(frames) == 1
    assert width <= 410, "legible at 400 px means nearly its own size there"


def test_arcs_of_one_lane_do_not_meet() -> None:
    root = ElementTree.fromstring(svg(SPACE, (3,) * 6))
    heights: dict[float, list[tuple[float, float]]] = {}
    for path in root.iter(f"{NS}path"):
        x0, _, _, top, _, _, x1, _ = numbers(path)
        heights.setdefault(top, []).append((x0, x1))
    assert len(heights) == 4, "the row, two lanes above, one below"
    for spans in heights.values():
        spans.sort()
        assert all(a[1] < b[0] for a, b in pairwise(spans))


def test_text_is_escaped() -> None:
    text = '<script>alert("1")</script> & co'
    drawing = draw_cell(["<i>", "b"], [Edge(0, 1, text, "#000000")], title=text, description=text)
    assert "<script" not in drawing
    root = ElementTree.fromstring(drawing)
    assert labels(root) == [text, text, "<i>", "b"]
    assert root.attrib["aria-label"] == f"{text}: {text}"


def test_many_drawings_can_stand_in_one_page() -> None:
    drawing = svg(SPACE, CELL)
    assert " id=" not in drawing and "url(" not in drawing and "href" not in drawing


def test_larger_cells_make_room_for_their_labels() -> None:
    edges = [
        Edge(0, 2, "sep conv 3×3", "#0062a8"),
        Edge(1, 2, "dil conv 5×5", "#b34a00"),
        Edge(0, 3, "skip", "#5f6b7a"),
        Edge(2, 3, "max pool 3×3", "#97477a"),
    ]
    root = ElementTree.fromstring(draw_cell(["k-2", "k-1", "0", "1"], edges))
    row = [numbers(path) for path in root.iter(f"{NS}path")]
    straight = [line[6] - line[0] for line in row if line[1] == line[3] == line[7]]
    assert len(straight) == 2 and min(straight) > 12 * 7


def test_both_darts_cells_are_drawn_and_named() -> None:
    root = ElementTree.fromstring(svg(DARTS, GENOTYPE, title="Second order"))
    nodes = ["k−2", "k−1", "0", "1", "2", "3", "out"]
    assert sorted(labels(root)) == sorted(
        [
            "Second order",
            "normal cell",
            "reduction cell",
            *nodes,
            *nodes,
            *["sep conv 3×3"] * 5,
            *["skip"] * 5,
            "dil conv 3×3",
            *["max pool 3×3"] * 4,
            "avg pool 3×3",
        ]
    )
    assert len(list(root.iter(f"{NS}path"))) == len(list(root.iter(f"{NS}polygon"))) == 16
    assert root.attrib["aria-label"] == f"Second order: {GENOTYPE}"


def test_darts_arrows_lead_from_their_source_to_their_target() -> None:
    root = ElementTree.fromstring(svg(DARTS, GENOTYPE))
    columns = {
        text.text: float(text.attrib["x"])
        for text in root.iter(f"{NS}text")
        if text.text in {"k−2", "k−1", "0", "1", "2", "3"}
    }
    rows = sorted((numbers(path) for path in root.iter(f"{NS}path")), key=lambda line: line[1])
    assert len({line[1] for line in rows}) == 16, "a row an operation"
    starts = [min(columns, key=lambda name: abs(columns[name] - line[0])) for line in rows[:8]]
    assert starts == ["k−2", "k−1", "k−2", "k−1", "k−2", "k−1", "k−2", "0"]
    for node, pair in zip("0123", zip(rows[:8:2], rows[1:8:2], strict=True), strict=True):
        assert all(0 < columns[node] - line[6] < 30 for line in pair)


def test_darts_drawings_are_400_wide_and_nothing_leaves_them() -> None:
    rng = np.random.default_rng(0)
    for cells in [DARTS.parse(GENOTYPE), *(DARTS.sample(rng) for _ in range(20))]:
        root = ElementTree.fromstring(svg(DARTS, cells))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert width == 400
        for text in root.iter(f"{NS}text"):
            x, letters = float(text.attrib["x"]), len(text.text or "")
            reach = {
                "end": (letters, 0),
                "start": (0, letters),
                "middle": (letters / 2, letters / 2),
            }[text.attrib["text-anchor"]]
            assert x - 7.8 * reach[0] > 0 and x + 7.8 * reach[1] < width
            assert 10 < float(text.attrib["y"]) < height
        boxes = [box.attrib for box in root.iter(f"{NS}rect")][1:]
        assert all(float(box["y"]) + float(box["height"]) < height for box in boxes)


@pytest.mark.parametrize("name", SPACES.names())
def test_networks_of_every_space_are_drawn_whole_and_inside(name: str) -> None:
    space = SPACES.get(name)
    for architecture in space.pool(5, np.random.default_rng(0)):
        shown = space.sketch(architecture)
        drawing = svg(space, architecture)
        root = ElementTree.fromstring(drawing)
        assert root.attrib["aria-label"] == space.format(architecture)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        assert width <= 410
        written = labels(root)
        for one in shown:
            wanted = [one.label, one.output] if isinstance(one, Block) else list(one.nodes)
            assert set(wanted) <= set(written)
        for text in root.iter(f"{NS}text"):
            assert 0 < float(text.attrib["x"]) < width
            assert 10 < float(text.attrib["y"]) < height
        for box in root.iter(f"{NS}rect"):
            assert float(box.attrib["y"]) + float(box.attrib["height"]) < height
        assert all(label in mermaid(space, architecture) for label in written if label != "none")


def test_a_space_that_sketches_nothing_shows_its_active_decisions() -> None:
    space = next(space for space in SPACES if not isinstance(space, WeightSharing))
    architecture = space.pool(1, np.random.default_rng(0))[0]
    rows = SearchSpace.sketch(space, architecture)
    assert len(rows) == sum(space.active(architecture))
    assert {row.label for row in rows} <= {decision.name for decision in space.decisions}
    assert {row.output for row in rows} <= {str(v) for d in space.decisions for v in d.values}


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="not a NAS-Bench-201 cell"):
        svg(SPACE, "|what|")
