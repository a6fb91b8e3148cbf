"""Memory and pace of a pass over JPEG files that are decoded anew each time.

The files are drawn: some hundred photographs of noise and shapes, linked under as many names as are
wanted. Each row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _report import parser, publish, required, run, table

from metad2a.errors import MetaD2AError

if TYPE_CHECKING:
    import numpy as np

SIDE = 224
CLASSES, DRAWN = 10, 400
BATCH = 64
BRIEF, FEW, MANY = 2_000, 10_000, 100_000
SIZES = ((224, 224), (256, 192), (192, 256), (320, 240))
"""Width and height, in pixels, of the files."""
WAYS = {
    "processes": "worker processes",
    "threads": "threads",
    "loader": "torch's DataLoader",
}


def draw(folder: Path, count: int) -> Path:
    """Write class folders of ``count`` JPEG files, of which all but some hundred are hard links."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class_{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number:06d}.jpg"
        if number >= DRAWN:
            first = number % DRAWN
            path.hardlink_to(folder / f"class_{first % CLASSES}" / f"{first:06d}.jpg")
            continue
        size = SIZES[number % len(SIZES)]
        coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=88)
    return folder


def child(folder: str, way: str, workers: int, images: int) -> None:
    """Take one pass over the first images, and print what it cost."""
    import torch

    from metad2a.datasets import load_dataset
    from metad2a.datasets import workers as module
    from metad2a.datasets.batches import Batches

    torch.set_num_threads(1)
    dataset = load_dataset(folder)
    start, seen, begun = time.perf_counter(), 0, 0.0
    stream: Any
    if way == "loader":
        stream = iter(loader(dataset, workers, images))
    else:
        module.FEW = 0 if way == "processes" else images
        batches = Batches(dataset, range(images), SIDE, resident_bytes=0, workers=workers)
        stream = batches.epoch(BATCH)
    pids = [os.getpid()]
    for pixels, *_ in stream:
        if not seen:
            begun, start = time.perf_counter() - start, time.perf_counter()
            before = len(pixels)
            if way == "loader":
                pids += [worker.pid for worker in stream._workers]
        seen += len(pixels)
    seconds = time.perf_counter() - start
    if way == "processes":
        pids += [process.pid for process in batches._pool._idle[0].processes]
    figures = {
        "begun": begun,
        "pace": (seen - before) / seconds,
        "cpu": sum(map(processor_seconds, pids)) / seen,
        "memory": sum(map(peak_bytes, pids)),
        "seen": seen,
    }
    print(json.dumps(figures))


def loader(dataset: Any, workers: int, images: int) -> Any:
    """Return torch's loader of the same squares, which collates and shares them in its own way."""
    from torch.utils.data import DataLoader, Dataset

    class Squares(Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return images

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            return dataset.square(index, SIDE), int(dataset.labels[index])

    return DataLoader(Squares(), BATCH, num_workers=workers, persistent_workers=True)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had resident so far."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def measure(folder: Path, way: str, workers: int, images: int) -> dict[str, float]:
    print(f"measuring {images:,} images, {workers} x {WAYS[way]} ...", file=sys.stderr)
    command = [sys.executable, __file__, "--child", str(folder), way, str(workers), str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise MetaD2AError(f"The pass failed with exit code {done.returncode}; see above.")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if found["seen"] != images:
        raise MetaD2AError(f"{found['seen']:,} images came out of {images:,}.")
    return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
        return
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--many", type=int, default=MANY, metavar="N", help=f"images of the long pass ({MANY:,})"
    )
    args: argparse.Namespace = arguments.parse_args()
    cases = [
        ("processes", 2, FEW),
        ("processes", 2, args.many),
        ("processes", 1, BRIEF),
        ("processes", 2, BRIEF),
        ("threads", 1, BRIEF),
        ("threads", 2, BRIEF),
        ("loader", 2, BRIEF),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        counts = {images for _, _, images in cases}
        folders = {count: draw(Path(temporary) / str(count), count) for count in counts}
        found = {case: measure(folders[case[2]], *case) for case in cases}
    few, many = found[("processes", 2, FEW)], found[("processes", 2, args.many)]
    rows = [
        [
            f"{images:,}",
            f"{workers} x {WAYS[way]}",
            f"{one['begun']:.2f}",
            f"{one['pace']:.0f}",
            f"{1000 * one['cpu']:.2f}",
            f"{one['memory'] / 2**20:.0f}",
        ]
        for (way, workers, images), one in found.items()
    ]
    publish(
        "batches",
        "Batches of more images than fit in memory",
        [
            f"One pass of `Batches(...).epoch({BATCH})` over JPEG files of 224x224 to 320x240 pixels "
            f"at {SIDE} px, listed anew, nothing kept. First batch: seconds from the first call, "
            "with the start of processes and the sending of the list. Pace: of all further batches. "
            "Processor time counts this process and its workers, with imports and listing. "
            "Memory: the sum of the highest resident memory of each, so that what they share counts "
            "several times.",
            table(
                [
                    "images",
                    "decoded by",
                    "first batch, s",
                    "images a second",
                    "processor ms an image",
                    "peak memory, MiB",
                ],
                rows,
            ),
            required(
                [
                    (
                        f"peak memory at {args.many:,} over that at {FEW:,} images",
                        many["memory"] / few["memory"],
                        1.1,
                        "",
                        False,
                    )
                ]
            ),
            f"The load of the machine was {os.getloadavg()[0]:.1f} at the end, of other programs "
            "too: paces are to be compared by their processor time.",
        ],
    )


if __name__ == "__main__":
    run(main)
