"""Latencies of the NAS-Bench-201 cells on 27 devices, as HELP published them.

Source: Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via
Meta-Learning", NeurIPS 2021; some of its devices are those of Li et al., "HW-NAS-Bench:
Hardware-Aware Neural Architecture Search Benchmark", ICLR 2021.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from database.exchange.rows import Row
from database.importers._cells import WANTED, Cells
from database.importers._csv import header, lines
from database.importers._published import CELLS
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError
from metad2a.spaces import SPACES

ORIGIN = Origin("help-latency", "MIT", "https://github.com/HayeonLee/HELP", 2021)
_BATCH = re.compile(r"(?P<device>.+)_(?P<batch>\d+)")
_WITHOUT_BATCH = {"essential_ph_1", "gold_6226", "gold_6240", "silver_4114"}
"""Devices whose own name ends in a number: a telephone and three processors."""
_RESOLUTION = 32


class HelpLatency(Importer):
    """Reads milliseconds from columns ``DEVICE_BATCH``; a column without a batch is of batch 1.

    Of isomorphic cells, which are one architecture here but were measured one by one there, the
    canonical one counts, or the one of lowest index where the table lacks it.
    """

    origin = ORIGIN
    wants = ("CSV file with the column idx and one column DEVICE_BATCH a device, in ms", WANTED)

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return a latency for each architecture and device."""
        path, cells = given
        return {"latencies": _latencies(path, cells)}


def _latencies(path: Path, cells: Path) -> Iterator[Row]:
    devices = [name for name in header(path) if name != "idx"]
    if not devices:
        raise InputError(f"{str(path)!r} has no column of a device. Give the table of latencies.")
    space, known = SPACES.get(CELLS), Cells(cells)
    chosen: dict[str, tuple[tuple[bool, int], dict[str, float]]] = {}
    for line in lines(path, ("idx",)):
        index, text = known.at(line, "idx")
        cell = space.parse(text)
        canonical = space.canonical(cell)
        rank = (cell != canonical, index)
        name = space.format(canonical)
        if name not in chosen or rank < chosen[name][0]:
            chosen[name] = (rank, {device: line.real(device) for device in devices})
    for column in devices:
        device, batch = _device(column)
        for name, (_, milliseconds) in chosen.items():
            yield {
                "space": CELLS,
                "architecture": name,
                "device": device,
                "batch": batch,
                "resolution": _RESOLUTION,
                "milliseconds": milliseconds[column],
                **ORIGIN.columns(),
            }


def _device(column: str) -> tuple[str, int]:
    found = None if column in _WITHOUT_BATCH else _BATCH.fullmatch(column)
    return (column, 1) if found is None else (found["device"], int(found["batch"]))


IMPORTERS.register(ORIGIN.name)(HelpLatency())
