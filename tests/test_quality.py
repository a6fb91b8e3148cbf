"""Copies, pictures alike, classes on one side, and labels that the other images speak against."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from metad2a.cli import main
from metad2a.datasets import check, draw, load_dataset
from metad2a.datasets.quality import compare, print_of
from metad2a.model.landmarks import described, with_doubts
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import describe_source
from metad2a.training.sides import split
from search.data import search_task


def drawn(seed: int, side: int = 96) -> Image.Image:
    """Return a smooth random picture; two of them are not alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def striped(seed: int, across: bool) -> np.ndarray:
    """Return uint8 (32, 32, 3): stripes of one direction, of any colour and place."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(32) * rng.uniform(0.6, 0.9) + rng.uniform(0, 6))
    plane = np.tile(wave, (32, 1)) if across else np.tile(wave[:, None], (1, 32))
    colour = rng.uniform(40, 120, 3)
    noise = rng.normal(0, 8, (32, 32, 3))
    return (128 + plane[:, :, None] * colour + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(4):
            drawn(len(place) * 100 + 10 * "ab".index(place[-1]) + i).save(
                tmp_path / place / f"{i}.png"
            )
    return tmp_path


def looked(folder: Path) -> tuple[int, int, int, int]:
    with load_dataset(folder) as dataset:
        found = check(dataset, quality=True).quality
    assert found is not None and found.looked == len(dataset)
    return found.copies, found.alike, found.across, found.contrary


def test_other_pictures_are_not_alike(folder: Path) -> None:
    assert looked(folder) == (0, 0, 0, 0)


def test_copies_and_pictures_alike(folder: Path) -> None:
    picture = Image.open(folder / "train/a/0.png")
    picture.save(folder / "train/a/copy.png")  # the same pixels
    picture.resize((64, 64)).save(folder / "train/a/small.png")
    picture.save(folder / "train/a/other.jpg", quality=75)
    picture.point(lambda value: value * 0.8 + 10).save(folder / "train/a/dim.png")
    picture.filter(ImageFilter.GaussianBlur(1)).save(folder / "train/a/blurred.png")
    assert looked(folder) == (1, 4, 0, 0)


def test_leakage_and_two_labels(folder: Path) -> None:
    (folder / "val/a/x.png").write_bytes((folder / "train/a/0.png").read_bytes())
    Image.open(folder / "train/b/1.png").save(folder / "val/a/y.jpg", quality=90)
    with load_dataset(folder) as dataset:
        report = check(dataset, quality=True)
        sample = draw(dataset, 0).report.quality
    found = report.quality
    assert found is not None and found == sample
    assert (found.copies, found.alike, found.across, found.contrary) == (1, 2, 2, 2)
    first, second = found.twins  # the worst first
    assert (first.first, first.second) == ("train/b/1.png", "val/a/y.jpg")
    assert first.across and first.labels == ("b", "a") and not first.copies
    assert second.copies and second.across
    told = str(report)
    assert "Warning: 2 images for validation or test are also among those for training" in told
    assert "Warning: 2 images are there under two labels" in told
    assert (
        json.loads(json.dumps(report.to_dict()))["quality"]["twins"][0]["second"] == "val/a/y.jpg"
    )


def test_flat_pictures_are_alike_only_where_they_are_copies(tmp_path: Path) -> None:
    for name, shade in (("a/0", 40), ("a/1", 90), ("b/0", 90), ("b/1", 200)):
        (tmp_path / name[0]).mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (shade, 0, 0)).save(tmp_path / f"{name}.png")
    assert looked(tmp_path) == (1, 0, 0, 2)


def test_many_pictures_that_are_all_one() -> None:
    images = np.repeat(np.asarray(drawn(1, 32))[None], 1_200, 0)
    dataset = load_dataset(images, np.arange(1_200) % 2)
    found = compare(dataset, {i: print_of(images[i]) for i in range(1_200)})
    assert (found.copies, found.alike, found.contrary) == (1_199, 0, 1_200)
    assert len(found.twins) == 20


def test_digits_are_not_alike() -> None:
    dataset = load_dataset("sklearn:digits")
    found = compare(dataset, {i: print_of(dataset.image(i)) for i in range(len(dataset))})
    assert found.copies == 0 and found.alike < 20


def test_classes_on_one_side_only(folder: Path) -> None:
    for place in ("train/new", "val/old"):
        (folder / place).mkdir()
        for i in range(3):
            drawn(900 + len(place) + i).save(folder / place / f"{i}.png")
    with load_dataset(folder) as dataset:
        notes = check(dataset).notes
    assert "Warning: only for training there are images of 'new'." in notes
    assert "Warning: only for validation or test there are images of 'old'." in notes


def test_a_class_on_the_test_side_alone_lends_images() -> None:
    dataset = load_dataset(np.stack([striped(i, True) for i in range(60)]), np.arange(60) % 3)
    dataset.split = ((np.arange(60) % 3 == 2) | (np.arange(60) >= 45)).astype(np.int8)
    sides = split(dataset, 0)
    assert sides.own_test
    assert np.bincount(dataset.labels[np.concatenate([sides.train, sides.choice])])[2] == 2
    assert np.bincount(dataset.labels[sides.test])[2] == 18
    dataset.split[:] = 1  # which is no side
    task = search_task(dataset, 32, 0)
    assert len(task.train_y) + len(task.test_y) + len(task.report_y) == 60


def test_labels_in_doubt() -> None:
    images = np.stack([striped(i, bool(i % 2)) for i in range(80)])
    names = np.array(["lying", "standing"])[np.arange(80) % 2]
    wrong = [10, 31]
    names[wrong] = ["standing", "lying"]
    dataset = load_dataset(images, names)
    report = with_doubts(dataset, check(dataset, quality=True))
    _, sampled = described(dataset, np.arange(80))
    for found in (report.quality, sampled.quality):
        assert found is not None
        assert sorted(one.index for one in found.doubts) == wrong
        assert {one.likelier for one in found.doubts if one.index == 10} == {"lying"}
    assert "Labels in doubt, of 80: image" in str(report)


def test_labels_that_say_nothing_are_not_doubted() -> None:
    images = np.stack([striped(i, bool(i % 2)) for i in range(60)])
    dataset = load_dataset(images, np.random.default_rng(1).integers(0, 2, 60))
    quality = with_doubts(dataset, check(dataset, quality=True)).quality
    assert quality is not None and quality.doubts == () and quality.judged == 60


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "val/a/x.png").write_bytes((folder / "train/a/0.png").read_bytes())
    assert main(["check", str(folder)]) == 0
    assert "copies" not in capsys.readouterr().out
    assert main(["check", str(folder), "--quality"]) == 0
    assert "train/a/0.png = val/a/x.png (copies, one for training" in capsys.readouterr().out


def test_the_page_shows_doubts_as_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    images = {
        f"{c}/{i}.png": striped(i + 50 * (c == "b"), c == "b") for c in "ab" for i in range(30)
    }
    # Some are held out for the test side, and are not asked about.
    images |= {f"a/<wrong {i}>.png": striped(99 + i, True) for i in range(3)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, image in images.items():
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            archive.writestr(name, content.getvalue())
    found = describe_source(str(path), True, "efficientnet_lite")
    assert found.report.quality is not None
    names = {one.name for one in found.report.quality.doubts}
    assert names and names <= {f"a/<wrong {i}>.png" for i in range(3)}
    view = dataset_view(found)
    assert "Labels in doubt" in view and view.count("data:image/") >= 17
    assert "<wrong" not in view
