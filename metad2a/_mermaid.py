"""Networks as Mermaid flowcharts, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from metad2a.spaces.sketch import Block, Cell


def of_cells(cells: Sequence[Cell]) -> str:
    """Return one flowchart of all cells; what is not used has dotted arrows."""
    lines = ["flowchart LR"]
    for number, cell in enumerate(cells):
        ids = [f"c{number}n{node}" for node in range(len(cell.nodes))]
        own = [f'{one}(["{name}"])' for one, name in zip(ids, cell.nodes, strict=True)]
        own += [
            f'{ids[edge.source]} {"-->" if edge.live else "-.->"}|"{edge.label}"| '
            f"{ids[edge.target]}"
            for edge in cell.edges
            if edge.shown
        ]
        if cell.stacked:
            own.append(f'c{number}out(["out"])')
            own += [f"{one} --> c{number}out" for one in ids[cell.inputs :]]
        if cell.heading:
            own = [f'subgraph c{number}["{cell.heading}"]', *(f"  {line}" for line in own), "end"]
        lines += [f"  {line}" for line in own]
    return "\n".join(lines) + "\n"


def of_blocks(blocks: Sequence[Block]) -> str:
    """Return one flowchart of blocks that follow one another, from the top downwards."""
    lines, numbered = ["flowchart TD"], list(enumerate(blocks))
    for number, (group, members) in enumerate(groupby(numbered, key=lambda one: one[1].group)):
        own = [f'b{index}["{block.label}<br/>{block.output}"]' for index, block in members]
        if group:
            own = [f'subgraph g{number}["{group}"]', *(f"  {line}" for line in own), "end"]
        lines += [f"  {line}" for line in own]
    lines += [f"  b{before} --> b{after}" for before, after in pairwise(range(len(blocks)))]
    return "\n".join(lines) + "\n"
