"""Time and memory of ``suggest``: the whole command, and a second call in one process.

The datasets are class folders of PNG files, 10 classes of CIFAR-10 images; those of more images
than there are hold every image several times, under names of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from _report import need, parser, publish, required, run, table

from metad2a.errors import MetaD2AError

SIZES = (1_000, 5_000, 50_000)
ZIPPED = JUDGED = 5_000
CLASSES = 10
WARM = """
import json, statistics, sys, time
import metad2a
seconds = []
for _ in range(1 + int(sys.argv[2])):
    start = time.perf_counter()
    metad2a.suggest(sys.argv[1])
    seconds.append(time.perf_counter() - start)
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Measured:
    """Seconds of the whole command and of a later call, and the highest peak in bytes."""

    name: str
    cold: float
    warm: float
    peak: float

    def row(self) -> list[str]:
        """Return the cells of its line in the table."""
        return [self.name, f"{self.cold:.2f}", f"{self.warm:.2f}", f"{self.peak / 1e9:.2f}"]


def child(*arguments: str) -> tuple[str, float, float]:
    """Run Python and return its output, wall-clock seconds, and peak resident memory in bytes.

    Raises:
        MetaD2AError: it failed.
    """
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=output)
        # Unlike RUSAGE_CHILDREN this is of the one process, not the largest of all so far. Its
        # peak counts from the fork, so this process must stay small: it never imports torch.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if process.returncode:
        raise MetaD2AError(
            f"'python {' '.join(arguments)[:200]}' ended with exit code "
            f"{process.returncode}; its own message is above."
        )
    return text, seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(name: str, data: Path, runs: int, calls: int) -> Measured:
    print(f"measuring {name} ...", file=sys.stderr)
    command = [child("-m", "metad2a", "suggest", str(data), "--json") for _ in range(runs)]
    text, _, _ = child("-c", WARM, str(data), str(calls))
    return Measured(
        name,
        statistics.median(seconds for _, seconds, _ in command),
        statistics.median(json.loads(text)[1:]),
        max(peak for *_, peak in command),
    )


def images(path: Path) -> list[list[bytes]]:
    """Return the image files of an image Parquet by class."""
    import pyarrow.parquet as pq

    found: list[list[bytes]] = [[] for _ in range(CLASSES)]
    for row in pq.read_table(path, columns=["image", "label"]).to_pylist():
        found[row["label"]].append(row["image"]["bytes"])
    return found


def write(folder: Path, by_class: list[list[bytes]], total: int) -> Path:
    """Write a class-folder tree of ``total`` images; repeated ones are hard links."""
    for label, own in enumerate(by_class):
        place = folder / f"class_{label}"
        place.mkdir(parents=True)
        for i in range(total // CLASSES):
            file = place / f"{i:05d}.png"
            if i < len(own):
                file.write_bytes(own[i])
            else:
                file.hardlink_to(place / f"{i % len(own):05d}.png")
    return folder


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--runs", type=int, default=3, metavar="N", help="runs of the command (default: 3)"
    )
    arguments.add_argument(
        "--calls", type=int, default=5, metavar="N", help="later calls in one process (default: 5)"
    )
    args = arguments.parse_args()
    by_class = images(need(args.shared, "data/cifar10/train.parquet"))
    results: list[Measured] = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in SIZES:
            folder = write(Path(temporary) / str(size), by_class, size)
            results.append(measure(f"folders, {size:,} images", folder, args.runs, args.calls))
            if size == ZIPPED:
                packed = Path(temporary) / "images.zip"
                with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                    for file in sorted(folder.rglob("*.png")):
                        archive.write(file, file.relative_to(folder))
                results.append(measure(f"zip, {size:,} images", packed, args.runs, args.calls))
    judged = results[SIZES.index(JUDGED)]
    publish(
        "suggest_time",
        "Time and memory of `suggest`",
        [
            f"{CLASSES} classes of 32x32 PNG files, just written, so the disk plays no part. Command: "
            f"wall-clock seconds of `metad2a suggest DATA --json` as a process of its own, median of "
            f"{args.runs} runs, and the highest peak of its resident memory. Later call: "
            f"`metad2a.suggest(DATA)` in a process that has called it once, listing the images anew, "
            f"median of {args.calls}.",
            table(
                ["dataset", "command, s", "later call, s", "peak memory, GB"],
                [result.row() for result in results],
            ),
            required(
                [
                    (f"later call, {JUDGED:,} images", judged.warm, 2, " s", False),
                    (f"command, {JUDGED:,} images", judged.cold, 12, " s", False),
                    (
                        "peak memory, all sizes",
                        max(r.peak for r in results) / 1e9,
                        1.5,
                        " GB",
                        False,
                    ),
                ]
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
