"""Drawings: well-formed, complete, escaped, and free of lines that run over each other."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from metad2a.draw import Edge, draw_cell, svg
from metad2a.errors import InputError
from metad2a.spaces.base import SPACES

SPACE = SPACES.get("nasbench201")
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
    edges = [Edge(0, 2, "sep conv 3×3", "#0062a8"), Edge(1, 2, "dil conv 5×5", "#b34a00"),
             Edge(0, 3, "skip", "#5f6b7a"), Edge(2, 3, "max pool 3×3", "#97477a")]
    root = ElementTree.fromstring(draw_cell(["k-2", "k-1", "0", "1"], edges))
    row = [numbers(path) for path in root.iter(f"{NS}path")]
    straight = [line[6] - line[0] for line in row if line[1] == line[3] == line[7]]
    assert len(straight) == 2 and min(straight) > 12 * 7


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="not a NAS-Bench-201 cell"):
        svg(SPACE, "|what|")
