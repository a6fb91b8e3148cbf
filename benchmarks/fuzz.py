"""Fuzzing: damaged images through the decoder's sandbox, and hostile archives through ``check``.

Every case follows from the seed and its number, which are printed with whatever goes wrong.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _report import ROOT, parser, publish, required, run, table
from PIL import Image

from metad2a.datasets import UnreadableImage, check, load_dataset
from metad2a.datasets.sandbox import Sandbox
from metad2a.errors import InputError

sys.path.append(str(ROOT / "tests"))
from fuzzing_archives import cases

SLOW_SECONDS = 5.0
"""An archive that takes longer counts as a hang."""
STUCK_SECONDS = 120
"""After this long in one archive the run ends with the place where it hangs."""
KINDS = (
    ("PNG", "RGB"),
    ("PNG", "P"),
    ("PNG", "LA"),
    ("PNG", "I;16"),
    ("JPEG", "RGB"),
    ("JPEG", "CMYK"),
    ("GIF", "P"),
    ("WEBP", "RGBA"),
    ("TIFF", "RGB"),
    ("TIFF", "F"),
    ("BMP", "RGB"),
    ("PPM", "L"),
)
OPTIONS = (
    ("JPEG", {"progressive": True}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("TIFF", {"compression": "jpeg"}),
    ("TIFF", {"compression": "group4"}),
    ("WEBP", {"lossless": True}),
)


def pictures() -> list[bytes]:
    """Return small image files of all formats that are read, in several modes."""
    noise = Image.effect_noise((40, 30), 80)
    out = []
    for kind, mode, options in (
        *((kind, mode, {}) for kind, mode in KINDS),
        *(
            (kind, "1" if "group4" in options.values() else "RGB", options)
            for kind, options in OPTIONS
        ),
    ):
        stream = io.BytesIO()
        noise.convert(mode).save(stream, kind, **options)
        out.append(stream.getvalue())
    return out


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, most of them near the start, and sometimes cut, copy or double a piece."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 12)):
        most = len(out) if rng.random() < 0.5 else min(len(out), 120)
        place = int(rng.integers(most))
        out[place] = int(rng.choice([out[place] ^ 1 << rng.integers(8), 0, 255, rng.integers(256)]))
    start, end = sorted(rng.integers(0, len(out), 2).tolist())
    edit = rng.integers(12)
    if edit == 0:
        del out[start:end]
    elif edit == 1:
        out[start:start] = out[start:end]
    elif edit == 2:
        del out[end:]
    return bytes(out)


def fuzz_images(box: Sandbox, seed: int, first: int, count: int) -> Counter[str]:
    """Decode ``count`` damaged images and return how often each outcome came."""
    found: Counter[str] = Counter()
    whole = pictures()
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        data = damaged(whole[number % len(whole)], rng)
        lost = box.lost.total()
        try:
            box.decode(data, int(rng.choice([0, 16])))
            outcome = "read"
        except UnreadableImage as error:
            outcome = "refused"
            if box.lost.total() > lost:
                outcome = "hangs" if "takes more than" in str(error) else "crashes"
                complain(f"image {number}", error)
        except Exception as error:  # What is looked for.
            outcome = "unexpected"
            complain(f"image {number}", error)
        found[outcome] += 1
    return found


def fuzz_archives(folder: Path, seed: int) -> Counter[str]:
    """Look through the archives of a seed and return how often each outcome came."""
    found: Counter[str] = Counter()
    for name, data in cases(seed):
        path = folder / name
        path.write_bytes(data)
        handles = entries(Path("/proc/self/fd"))
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)
        start = time.monotonic()
        try:
            with load_dataset(path) as dataset:
                check(dataset)
            outcome = "read"
        except InputError:
            outcome = "refused"
        except Exception as error:  # What is looked for.
            outcome = "unexpected"
            complain(f"archive {name}", error)
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - start > SLOW_SECONDS:
            outcome = "hangs"
            complain(f"archive {name}", TimeoutError())
        found[outcome] += 1
        path.unlink()
        left = entries(folder) + entries(Path("/proc/self/fd")) - handles
        found["left behind"] += max(left, 0)
    return found


def entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def complain(what: str, error: Exception) -> None:
    print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr)


def resident(pid: int | str) -> float:
    """Return the resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def rounds(minutes: float) -> Iterator[tuple[int, bool]]:
    """Yield numbers until the time is over, and whether a tenth of it has just passed."""
    start, warm, number = time.monotonic(), False, 0
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1:
        yield number, share >= 0.1 and not warm
        warm, number = share >= 0.1, number + 1


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--minutes",
        type=float,
        default=2,
        metavar="M",
        help="how long (default: 2; 60 for a thorough run)",
    )
    arguments.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    args = arguments.parse_args()
    images: Counter[str] = Counter()
    archives: Counter[str] = Counter()
    box, before = Sandbox(), 0.0
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # So that whatever is left behind is seen.
        for number, warm in rounds(args.minutes):
            if warm:
                before = resident("self")
            images += fuzz_images(box, args.seed, 1000 * number, 1000)
            archives += fuzz_archives(Path(temporary), 2**20 * args.seed + number)
        grown = resident("self") - before
        box.close()
        tempfile.tempdir = None
    columns = ("read", "refused", "crashes", "hangs", "unexpected", "left behind")
    bad = [sum(kind[column] for kind in (images, archives)) for column in columns[2:]]
    publish(
        "fuzz",
        "Fuzzing",
        [
            "Small images of all formats with flipped, cut and copied bytes, decoded in the sandbox; "
            "broken and hostile zips and tars, opened and looked through. Crashes are deaths of the "
            f"child process, hangs more than 2 s for an image and {SLOW_SECONDS:g} s for an archive, "
            "unexpected any exception that is no refusal, left behind any file or open handle.",
            table(
                ["what", "cases", *columns],
                [
                    [
                        name,
                        f"{sum(kind[c] for c in columns[:-1]):,}",
                        *(f"{kind[c]:,}" for c in columns),
                    ]
                    for name, kind in (("images", images), ("archives", archives))
                ],
            ),
            required(
                [
                    *(
                        (name, count, 0, "", False)
                        for name, count in zip(columns[2:], bad, strict=True)
                    ),
                    ("growth of memory after the first tenth", grown, 50, " MiB", False),
                ]
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
