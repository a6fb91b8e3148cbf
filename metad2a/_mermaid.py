"""Cells as Mermaid flowcharts, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from collections.abc import Sequence

from metad2a._wiring import Wiring


def flowchart(cells: Sequence[Wiring]) -> str:
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
