"""Width and depth of a cell, whatever space it is of."""

from __future__ import annotations

from collections.abc import Sequence


def width_depth(nodes: Sequence[Sequence[int]], inputs: int) -> tuple[float, int]:
    """Measure how wide and how deep a cell is.

    The width is the sum over the intermediate nodes of the share of their inputs that are inputs
    of the cell (in units of the cell's channels); the depth is the number of connections on the
    longest path from an input of the cell to any node (Shu, Wang, Cai, "Understanding
    Architectures Learnt by Cell-based Neural Architecture Search", ICLR 2020, section 3). The
    paper counts the connection from that node to a concatenation, too: add one where there is one.

    Args:
        nodes: the inputs of each intermediate node in topological order, counted from 0 with the
            inputs of the cell first; a node without inputs adds nothing.
        inputs: how many inputs the cell has.
    """
    width, depths = 0.0, [0] * inputs
    for sources in nodes:
        direct = sum(source < inputs for source in sources)
        width += direct / max(len(sources), 1)
        depths.append(max((depths[source] + 1 for source in sources), default=0))
    return width, max(depths)
