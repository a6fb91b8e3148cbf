"""How folders, archives, tables and stored forms of strangers are read: right, said or wrong.

Given the folder in which the drawn inputs of the public cases are unpacked, each is read and
reported on as `metad2a check` does, and held against the table below. *Right*: every class with its
images, and how many are for validation or test. *Said*: not read, or read in part, and the error or
the report says so in the words of the table. *Wrong*: all else. What is too large to ship is drawn
anew.

    python benchmarks/inputs.py FOLDER [CASE ...]

The exit code is 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from metad2a.datasets import DatasetReport, check, load_dataset
from metad2a.errors import MetaD2AError


class Row(NamedTuple):
    """What is expected of one input."""

    case: str
    path: str
    right: str = ""
    """Classes with their images, and those for validation or test: ``cat 8 dog 8; 3``."""
    said: str = ""
    """What the error or the report matches where it is not right."""


TWO = "cat 6 dog 6; 0"
ROWS = (
    Row("A05a", "A05_same", said="link to a/"),
    Row("A05b", "A05_link", said="link to train/"),
    Row("A05c", "A05_train", said="link to train/"),
    Row("A05c", "A05_val", said="link to train/"),
    Row("A05d", "A05d", said="link to train/cat/"),
    Row("A08", "A08_kaggle", "cat 6 dog 6; 0"),
    Row("A09", "A09_runs", "cat 11 dog 11; 6"),
    Row("A10", "A10_sets", "cats 11 dogs 11; 6"),
    Row("A11", "A11_intel", "buildings 11 forest 11 sea 11; 9"),
    Row("A12", "A12_chest", "NORMAL 11 PNEUMONIA 11; 10"),
    Row("A13", "A13_gtsrb", "0 6 1 6 2 6 3 6 4 6; 0"),
    Row("A14", "A14_tiny", "n01443530 8 n01443531 8 n01443532 8 n01443533 8; 8"),
    Row("A15", "A15_valflat", "n00 6 n01 6 n02 6; 0", "val"),
    Row("A16", "A16_mvtec", "broken_large 4 good 12; 8"),
    Row("A18", "A18_pets", "Abyssinian 8 beagle 8; 0"),
    Row("A19a", "A19_coco", said="COCO"),
    Row("A19b", "A19_voc/VOC2012", said="VOC"),
    Row("A20", "A20_yolo", said="YOLO"),
    Row("A22", "A22_valonly", said="only for validation or test there are images of 'bird'"),
    Row("A23", "A23_case", "Cat 11 Dog 11; 6"),
    Row("A46", "A46", "cat 9 dog 9; 6"),
    Row("A47", "A47", "0 8 1 8 2 8; 12"),
    Row("B03a", "B03a 12-bit in 16-bit tiff", "c0 6 c1 6; 0"),
    Row("B03b", "B03b 10-bit in 16-bit png", "c0 6 c1 6; 0"),
    Row("B05", "B05_trunc", said="1 of the images looked at, 8.3 %, are unreadable"),
    Row("B08a", "B08a 13-band uint16 tiff (EuroSAT MS)", said="a TIFF of 13 channels of 16-bit"),
    Row("B08d", "B08d float32 rgb tiff", said="a TIFF of 3 channels of 32-bit floats"),
    Row("B09", "B09 float gray tiff with NaN border", "c0 6 c1 6; 0"),
    Row("B10a", "made/B10_24mp", "a 4 b 4; 0"),
    Row("B10b", "made/B10_pano", "a 4 b 4; 0"),
    Row("B17", "B17 png with 1.5 MB compressed text (ComfyUI workflow)", "c0 6 c1 6; 0"),
    *(
        Row("B28", f"B28{ending}", "a 6 b 6 c 3 d 3; 0")
        for ending in (
            ".jfif .jpe .avif .jp2 .tga .jpg .pbm .dib .mpo .jpg_large".split()  # noqa: SIM905
        )
    ),
    Row("B28", "B28", "a 6 b 6 c 3 d 3; 0"),
    Row("B29", "B29_mixed", "a 12 b 12; 0"),
    Row("B30", "B30", said=r"6 \.jxl|12 \.jxl"),
    Row("B31", "B31", "a 6 b 6; 0", "heif"),
    Row("C03", "C03_abs/labels.csv", TWO),
    Row("C03b", "C03b_csv/labels.csv", TWO),
    Row("C04", "C04_csv/labels.csv", TWO),
    Row("C05", "C05_csv/labels.csv", TWO),
    Row("C05b", "C05b_csv/labels.csv", TWO),
    Row("C05c", "C05c_csv/labels.csv", TWO),
    Row("C06", "C06_csv/labels.csv", TWO),
    Row("C07", "C07_csv/labels.csv", said="several labels|more than one label"),
    Row("C07b", "C07b_csv/labels.csv", said="several labels|more than one label"),
    Row("C08", "C08_csv/labels.csv", TWO),
    Row("C08b", "C08b_csv/labels.csv", "狗 6 猫 6; 0"),
    Row("C08c", "C08c_csv/labels.csv", "Hündchen 6 Kätzchen 6; 0"),
    Row("C09", "C09_hf", TWO),
    Row("C10", "C10_hf2", "cat 12 dog 12; 12"),
    Row("C18", "C18_csv/labels.csv", "cat 6 dog 6; 8"),
    Row("C21", "C21_csv/labels.csv", TWO, "2 of 14 files are missing"),
    Row("C22", "C22_csv/labels.csv", "cat 4 dog 5; 0"),
    Row("C22b", "C22b_csv/labels.csv", "cat 4 dog 5; 0"),
    Row("C23", "C23_csv/train.txt", "0 6 1 6; 0"),
    Row("C24", "C24_csv/labels.csv", TWO),
    Row("C25", "C25_csv/labels.csv", TWO),
    Row("C26", "C26_csv/labels.csv", TWO),
    Row("C27", "C27_csv/labels.csv", TWO),
    Row("C29", "C29_csv/labels.txt", TWO),
    Row("C30", "C30_csv/labels.json", TWO),
    Row("C32", "C32_csv/labels.csv", TWO),
    Row("C33", "C33_csv/labels.csv", TWO),
    Row("C34", "C34_link/labels.csv", TWO, "outside the folder"),
    Row("D02", "D02/data.zip", "狗 6 猫 6; 0"),
    Row("D03", "D03/data.zip", "猫 6 表示 6 表紙 6; 0"),
    Row("D05", "D05/data.zip", "狗 6 猫 6; 0"),
    Row("D07", "D07_7z/data.7z", TWO, r"metad2a\[7z\]|no readable 7z"),
    Row("D07", "D07_rar/data.rar", said="Unpack it"),
    Row("D07", "D07_tar_zst/data.tar.zst", TWO, r"metad2a\[zstd\]|cut short"),
    Row("D07", "D07_tar_lz4/data.tar.lz4", said="Unpack it"),
    Row("D08", "D08/data.zip", TWO, r"archive|unpack|\.zip"),
    Row("D08b", "D08b", "cat 12 dog 12; 12", r"archive|unpack|\.zip"),
    Row("D10", "D10/data.zip", "cat 7 dog 6; 0"),
    Row("D10b", "D10b/data.zip", said="Cat"),
    Row("D11", "D11/data.zip", said="is a link or a device"),
    Row("D12", "D12/data.tar.gz", said="is a link, a device or a sparse file"),
    Row("D13", "made/D13.zip", "0 30000 1 30000; 0"),
    Row("D14", "D14lzma/data.zip", said="packed by method 14"),
    Row("D14", "D14bzip2/data.zip", said="packed by method 12"),
    Row("D15", "D15/train-000000.tar", "0 8 1 8; 0"),
    Row("D15b", "D15", "0 8 1 8; 0"),
    Row("D19", "D19/data.zip", TWO),
    Row("D23", "D23/data.zip", said="other data stands before it"),
    Row("D23b", "D23b/data.zip", said="has other data after it"),
    Row("D28", "D28/data.zip", said="has two names"),
    Row("D29", "D29/data.zip", "cat 8 dog 6; 0"),
    Row("D29f", "D29f", "cat 9 dog 8; 0"),
    Row("D30", "D30", "cat 9 dog 8; 0"),
    Row("D31", "D31/x.tar", TWO),
    Row("D32", "made/D32.zip", TWO),
    Row("D33", "D33/data.zip", TWO),
    Row("E01", "E01/pathmnist.npz", "0 12 1 12; 8"),
    Row("E02", "E02", "0 12 1 12; 8"),
    Row("E02b", "E02/train-images-idx3-ubyte.gz", "0 8 1 8; 0", "folder"),
    Row("E03", "E03/cifar-10-batches-py", "a 12 b 12; 0"),
    Row("E03b", "E03/cifar-10-python.tar.gz", "a 12 b 12; 0"),
    Row("E04", "E04/data.h5", said="HDF5"),
    Row("E04", "E04/data.mat", said="scipy"),
    Row("E04", "E04/x.tfrecord", said="class folders"),
    Row("E04", "E04/x.npy", said="savez"),
    Row("E04", "E04/x.pkl", said="can run any program"),
    Row("E05", "E05/one", TWO),
    Row("E05b", "E05/two", "cat 9 dog 9; 6"),
    Row("E06", "E06/cifar10", "cat 9 dog 9; 6"),
    Row("E08", "E08/set", TWO),
    Row("E09", "E09/set", TWO),
    Row("E10", "E10/x.parquet", TWO),
    Row("E11", "E11/x.parquet", "False 6 True 6; 0"),
    Row("E12", "E12/x.parquet", "0 6 1 6; 0"),
    Row("E13", "E13/x.parquet", said="path"),
    Row("E14", "E14/x.parquet", TWO),
    Row("E15", "E15/x.parquet", "0 6 1 6; 0"),
    Row("E16", "E16/x.parquet", said="several labels|list"),
    Row("E17", "E17/x.parquet", TWO, "base64"),
    Row("E19", "E19/x.parquet", TWO),
    Row("E20", "E20", "cat 8 dog 8; 0"),
    Row("E20b", "E20b", said="The folder 'data' holds pictures"),
    Row("E21", "E21/x.parquet.gzip", TWO),
    Row("E22", "E22/x.parquet", TWO),
)


def judged(row: Row, folder: Path) -> tuple[str, str]:
    """Return right, said or wrong, and what was read or answered."""
    try:
        with load_dataset(folder / row.path) as dataset:
            report = check(dataset)
    except MetaD2AError as error:
        told = str(error)
        return ("said" if row.said and re.search(row.said, told) else "wrong"), told
    found = _found(report)
    if row.right and found == row.right:
        return "right", found
    told = f"{report} {report.details()}"
    return ("said" if row.said and re.search(row.said, told) else "wrong"), f"{found} | {told}"


def _found(report: DatasetReport) -> str:
    classes = " ".join(
        f"{name} {train + test}" for name, train, test in sorted(report.class_counts)
    )
    return f"{classes}; {report.split[1]}"


def photos(folder: Path, width: int, height: int) -> None:
    """Draw four photos of each of two classes."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    for number, pixels in enumerate(colours):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((width, height)).save(place / f"{number}.jpg")


def zipped(path: Path, images: int, beside: dict[str, bytes], names: tuple[str, str]) -> None:
    """Write a zip of images of two classes, and other files beside them."""
    stream = io.BytesIO()
    Image.new("L", (28, 28), 90).save(stream, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            archive.writestr(f"{names[number % 2]}/{number}.png", stream.getvalue())
        for name, data in beside.items():
            archive.writestr(name, data)


MADE: dict[str, Callable[[Path], None]] = {
    "made/B10_24mp": lambda path: photos(path, 5712, 4284),
    "made/B10_pano": lambda path: photos(path, 9000, 1200),
    "made/D13.zip": lambda path: zipped(path, 60_000, {}, ("0", "1")),
    "made/D32.zip": lambda path: zipped(path, 12, {"video.mp4": bytes(21 * 10**6)}, ("cat", "dog")),
}


def main() -> int:
    """Read the inputs and print what became of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where the drawn inputs are unpacked")
    parser.add_argument("cases", nargs="*", help="only these, such as A08 D02")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    tally = {"right": 0, "said": 0, "wrong": 0}
    with tempfile.TemporaryDirectory() as made:
        for row in ROWS:
            if args.cases and row.case not in args.cases:
                continue
            place = Path(made) if row.path in MADE else args.folder
            if row.path in MADE:
                MADE[row.path](place / row.path)
            verdict, told = judged(row, place)
            tally[verdict] += 1
            print(f"{verdict:5}  {row.case:5}  {row.path[:40]:40}  {' '.join(told.split())[:150]}")
    print(", ".join(f"{count} {verdict}" for verdict, count in tally.items()))
    return 1 if tally["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
