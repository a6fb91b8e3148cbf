"""What is refused of a stranger is read, or told, where it is a user's own."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archives import PACKERS, TREE, picture, zip_bytes
from PIL import Image, PngImagePlugin

from metad2a.datasets import UnreadableImage, check, draw, load_dataset
from metad2a.errors import InputError


def tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def many(count: int = 6) -> dict[str, bytes]:
    return {f"{c}/{i}.png": picture(10 * k + i) for k, c in enumerate("ab") for i in range(count)}


def photo(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, "JPEG")
    return stream.getvalue()


def test_large_photos_are_scaled_down_while_decoding(tmp_path: Path) -> None:
    files = {
        f"{c}/{i}.jpg": photo(*s) for c in "ab" for i, s in enumerate([(5000, 3400), (9000, 1200)])
    }
    tree(tmp_path, files)
    for sandbox in (False, True):
        with load_dataset(tmp_path, sandbox=sandbox) as dataset:
            assert check(dataset).sizes == (1200, 4200, 9000)
            assert dataset.square(0, 64).shape == (64, 64, 3)
    # Whole it would still be too much of a stranger's.
    with (
        load_dataset(tmp_path, sandbox=True) as dataset,
        pytest.raises(UnreadableImage, match="megapix"),
    ):
        dataset.image(0)


def test_text_in_a_png_is_passed_over(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 1_500_000, zip=True)
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=text)
    tree(tmp_path, many(1) | {"a/x.png": stream.getvalue(), "b/y.png": stream.getvalue()})
    for sandbox in (False, True):
        with load_dataset(tmp_path, sandbox=sandbox) as dataset:
            assert check(dataset).skipped == ()
            np.testing.assert_array_equal(dataset.image(1), pixels)


def test_one_torn_file_of_twelve(tmp_path: Path) -> None:
    files = many()
    files["a/0.png"] = files["a/0.png"][:60]
    tree(tmp_path, files)
    with load_dataset(tmp_path) as dataset:
        for report in (check(dataset), draw(dataset, 0).report):
            assert (report.images, len(report.skipped)) == (11, 1)
            assert any("Warning: 1 of the images" in note for note in report.notes)
    with (
        load_dataset(tmp_path, sandbox=True) as dataset,
        pytest.raises(InputError, match="at most 5 % may be"),
    ):
        check(dataset)


def test_mostly_torn_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, {name: data[:60] if name < "b/2" else data for name, data in many().items()})
    with load_dataset(tmp_path) as dataset, pytest.raises(InputError, match="at most 50 % may be"):
        check(dataset)


def test_a_class_of_one_image_is_left_out(tmp_path: Path) -> None:
    tree(tmp_path, many() | {"one/0.png": picture(99)})
    for sandbox in (False, True):
        with load_dataset(tmp_path, sandbox=sandbox) as dataset:
            report = check(dataset)
            assert (dataset.classes, report.images) == (("a", "b"), 12)
            assert any("left out" in note and "'one'" in note for note in report.notes)
            assert dataset.locate(11) == "b/5.png" and dataset.image(11).shape == (9, 12, 3)


def test_a_class_that_unreadable_files_empty_is_told(tmp_path: Path) -> None:
    torn = {f"c/{i}.png": picture(i)[:50] for i in range(2)}
    tree(tmp_path, many(20) | torn)
    with load_dataset(tmp_path) as dataset:
        notes = check(dataset).notes
    assert any("'c' has 0 readable images" in note for note in notes)
    with load_dataset(tmp_path, sandbox=True) as dataset, pytest.raises(InputError, match="'c'"):
        check(dataset)


@pytest.mark.parametrize("name", ["\u202a+49 151\u202c.png", "two\nlines.png"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    odd = many() | {f"a/{name}": picture(77)}
    folder = tree(tmp_path / "folder", odd)
    (tmp_path / "x.zip").write_bytes(zip_bytes(odd))
    for source in (folder, tmp_path / "x.zip"):
        with load_dataset(source) as dataset:
            assert check(dataset).images == 13
            shown = [dataset.locate(i) for i in range(13)]
            assert all(one.isprintable() for one in shown)
            assert any("\\u" in one for one in shown)
        with pytest.raises(InputError, match="control character"):
            load_dataset(source, sandbox=True)


def test_names_that_other_systems_mix_up(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(
        zip_bytes(many() | {"a/IMG.PNG": picture(1), "a/img.png": picture(2)})
    )
    with load_dataset(tmp_path / "x.zip") as dataset:
        assert len(dataset) == 14
    with pytest.raises(InputError, match="same name on some systems"):
        load_dataset(tmp_path / "x.zip", sandbox=True)


def test_other_files_of_an_archive_do_not_count(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in TREE.items():
            archive.writestr(name, data)
        archive.writestr("video.mp4", bytes(21_000_000))
        archive.writestr("train.csv", b"0," * 8_000_000)
    (tmp_path / "x.zip").write_bytes(stream.getvalue())
    with load_dataset(tmp_path / "x.zip") as dataset:
        assert check(dataset).images == len(TREE)
    with pytest.raises(InputError, match="more than"):
        load_dataset(tmp_path / "x.zip", sandbox=True)


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_deep_archives(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(
        PACKERS[ending]({f"a/b/c/d/e/f/g/{name}": data for name, data in TREE.items()})
    )
    with load_dataset(path) as dataset:
        assert dataset.classes == ("a", "b")
    with pytest.raises(InputError, match=r"[78] folders"):
        load_dataset(path, sandbox=True)
