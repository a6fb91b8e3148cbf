"""The official numbers of the NAS-Bench-201 cells, which some tables give without the cells."""

from __future__ import annotations

from pathlib import Path

from database.importers._csv import Line, lines

WANTED = "CSV file with the columns idx and arch, the official index of every cell"


class Cells:
    """Cells by their official index, as a table lists them."""

    def __init__(self, path: Path | str) -> None:
        """Read the table.

        Raises:
            InputError: it cannot be read, or lacks the columns idx and arch.
        """
        self._path = path
        self._cells = {
            line.integer("idx"): line.text("arch") for line in lines(path, ("idx", "arch"))
        }

    def at(self, line: Line, column: str) -> tuple[int, str]:
        """Return the index that a row of another table names, and its cell.

        Raises:
            InputError: it is no index of the table of cells.
        """
        index = line.integer(column)
        if index not in self._cells:
            raise line.wrong(
                column, f"the index of one of the {len(self._cells)} cells in {str(self._path)!r}"
            )
        return index, self._cells[index]
