"""Drawings as files: what is dashed, readable on any ground, PNG without fonts, Mermaid edges."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from test_draw import CELL, DARTS, GENOTYPE, NS, SPACE

from metad2a import _png
from metad2a._svg import COLOURS, INK, PAPER
from metad2a.draw import mermaid, svg, write
from metad2a.errors import ArtifactError, InputError

DEAD = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|none~2|"
ARROW = re.compile(r'c(\d)n(\d) (-->|-\.->)\|"(.+?)"\| c\1n(\d)')


def test_what_leads_nowhere_is_dashed() -> None:
    root = ElementTree.fromstring(svg(SPACE, DEAD))
    dashed = ["stroke-dasharray" in path.attrib for path in root.iter(f"{NS}path")]
    assert dashed == [True, True, False], "conv 3x3, conv 1x1, skip"
    for space, whole in ((SPACE, CELL), (DARTS, GENOTYPE)):
        assert "dasharray" not in svg(space, whole)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [*COLOURS, INK])
def test_words_are_readable_on_light_and_dark_pages(colour: str) -> None:
    """The drawing's own paper covers it, and all words stand out from it (WCAG AA)."""
    assert (luminance(PAPER) + 0.05) / (luminance(colour) + 0.05) >= 4.5
    root = ElementTree.fromstring(svg(DARTS, GENOTYPE))
    paper, (_, _, width, height) = (
        next(root.iter(f"{NS}rect")).attrib,
        root.attrib["viewBox"].split(),
    )
    assert paper["fill"] == PAPER
    assert float(paper["width"]) > float(width) - 2 and float(paper["height"]) > float(height) - 2


@pytest.mark.parametrize(
    ("space", "cells"),
    [
        (SPACE, CELL),
        (SPACE, DEAD),
        (DARTS, GENOTYPE),
    ],
    ids=["nasbench201", "dead", "darts"],
)
def test_mermaid_has_the_edges_of_the_graph(space, cells) -> None:
    text = mermaid(space, cells)
    found = [
        (int(cell), int(a), int(b), words, arrow == "-->")
        for cell, a, arrow, words, b in ARROW.findall(text)
    ]
    live = [cells != DEAD or words == "skip" for *_, words, _ in found]
    if space is SPACE:
        parsed = re.findall(r"(\w+)~(\d)", cells)
        ends = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
        wanted = [(0, a, b, op, True) for (a, b), (op, _) in zip(ends, parsed, strict=True)]
        names = {
            "nor_conv_3x3": "conv 3×3",
            "nor_conv_1x1": "conv 1×1",
            "skip_connect": "skip",
            "avg_pool_3x3": "pool 3×3",
        }
    else:
        pairs = re.findall(r"'(\w+)', (\d)", cells)
        wanted = [
            (i // 8, int(source), 2 + i % 8 // 2, op, True) for i, (op, source) in enumerate(pairs)
        ]
        names = {
            op: op.replace("_connect", "").replace("_", " ").replace("x", "×") for op, _ in pairs
        } | {"max_pool_3x3": "max pool 3×3"}
    assert [(c, a, b, names[op]) for c, a, b, op, _ in wanted if op != "none"] == [
        one[:4] for one in found
    ]
    assert [one[4] for one in found] == live
    assert text.count("--> c0out") == (4 if space is DARTS else 0)
    assert text.count("subgraph") == text.count("  end\n") == (2 if space is DARTS else 0)


def test_a_file_is_written_in_the_format_of_its_name(tmp_path) -> None:
    for name in ("a.svg", "a.png", "a.mmd", "a.md", "A.SVG"):
        write(SPACE, CELL, tmp_path / name)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == svg(SPACE, CELL)
    assert (tmp_path / "A.SVG").read_bytes() == (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "a.mmd").read_text(encoding="utf-8") == mermaid(SPACE, CELL)
    fenced = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert fenced == f"```mermaid\n{mermaid(SPACE, CELL)}```\n"
    assert len(list(tmp_path.iterdir())) == 5
    for name in ("a.jpg", "a", ".svg"):
        with pytest.raises(InputError, match=r"end in \.svg, \.png, \.mmd, \.md\."):
            write(SPACE, CELL, tmp_path / name)
    with pytest.raises(ArtifactError, match="No such file or directory"):
        write(SPACE, CELL, tmp_path / "no" / "a.svg")


@pytest.mark.parametrize(
    ("space", "cells"), [(SPACE, CELL), (DARTS, GENOTYPE)], ids=["nasbench201", "darts"]
)
def test_every_word_is_seen_in_the_png_without_a_font_of_the_system(space, cells) -> None:
    drawing = svg(space, cells)
    root = ElementTree.fromstring(drawing)
    whole = Image.open(io.BytesIO(_png.png(drawing))).convert("RGB")
    bare = Image.open(io.BytesIO(_png.png(re.sub(r"<text.*?</text>", "", drawing)))).convert("RGB")
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    assert whole.size == (2 * width, 2 * height)
    inked = np.abs(np.asarray(whole, int) - np.asarray(bare, int)).sum(2) > 150
    for text in root.iter(f"{NS}text"):
        x, y, letters = float(text.attrib["x"]), float(text.attrib["y"]), len(text.text or "")
        left = {"start": 0, "middle": 3.9 * letters, "end": 7.8 * letters}[
            text.attrib["text-anchor"]
        ]
        box = inked[
            int(2 * y - 24) : int(2 * y + 4),
            max(int(2 * (x - left)), 0) : int(2 * (x - left + 7.8 * letters)),
        ]
        # A letter of the font inks some 20 of these pixels at the least, a missing one none.
        assert box.sum() > 12 * letters, text.text
        assert set((text.text or "").translate(_png._IN_FONT)) <= set(map(chr, range(32, 127)))


def test_png_names_the_extra_that_it_needs(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(_png, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"resvg_py.*pip install 'metad2a\[png\]'"):
        write(SPACE, CELL, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
