"""How people arrange labelled images: every layout of the registry, and what strangers have."""

import io
import json
import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from archives import picture
from PIL import Image

from metad2a.cli import main
from metad2a.datasets import check, load_dataset
from metad2a.datasets.layout import LAYOUTS, Listing, Unsure, Wish, read_layout
from metad2a.errors import InputError
from metad2a.settings import LIMITS, strangers


def read(paths: Iterable[str], texts: Mapping[str, str] | None = None, **wish: Any) -> Listing:
    texts = texts or {}

    def peek(path: str, most: int) -> bytes:
        return texts.get(path, "").encode()[:most]

    return read_layout([*paths, *texts], Wish(**wish), peek)


def counts(listing: Any) -> dict[str, tuple[int, int]]:
    """Return images for training and for testing by class."""
    found = Counter(zip(listing.labels.tolist(), listing.split.tolist(), strict=True))
    return {name: (found[i, 0], found[i, 1]) for i, name in enumerate(listing.classes)}


def tree(*folders: str, n: int = 3, ending: str = "png") -> list[str]:
    """Return the paths of n images in each folder, named alike in all of them."""
    return [f"{folder}/img_{i:03}.{ending}" for folder in folders for i in range(n)]


def build(root: Path, paths: Iterable[str], texts: Mapping[str, str] | None = None) -> Path:
    for i, name in enumerate(paths):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
    for name, text in (texts or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


SIDES = {"cat": (3, 3), "dog": (3, 3)}
BOTH = {"cat": (3, 0), "dog": (3, 0)}


# -- every layout of the registry --------------------------------------------------------------


def images_of(name: str) -> tuple[list[str], dict[str, str]]:
    files = LAYOUTS.get(name).example.files
    return [path for path, text in files.items() if not text], {
        path: text for path, text in files.items() if text
    }


@pytest.mark.parametrize("name", LAYOUTS.names())
@pytest.mark.parametrize("wrap", ["", "set/", "archive/data/"])
def test_an_example_is_recognised(name: str, wrap: str) -> None:
    answer = LAYOUTS.get(name).example.answer
    paths, texts = images_of(name)
    paths = [wrap + path for path in paths]
    texts = {wrap + path: text for path, text in texts.items()}
    if isinstance(answer, str):
        with pytest.raises(Unsure) as caught:
            read(paths, texts)
        for words in (answer.replace("'*/", f"'{wrap}*/"), "--layout", "--classes-at", "--labels"):
            assert words in str(caught.value)
        return
    listing = read(paths, texts)
    assert name in listing.layouts
    assert {label: sum(sides) for label, sides in counts(listing).items()} == answer
    used = set(listing.paths)
    left = [path for path in paths if path not in used]
    # What is not used is said, every image of it.
    assert sum(one.images for one in listing.unused) >= len(left)
    for path in left:
        assert any(path.startswith(one.path.removesuffix("*")) for one in listing.unused)


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_an_example_is_the_same_in_a_folder_and_an_archive(name: str, tmp_path: Path) -> None:
    paths, texts = images_of(name)
    root = build(tmp_path / "set", paths, texts)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in [*paths, *texts]:
            archive.write(root / path, path)
    for source in (root, tmp_path / "set.zip"):
        if isinstance(LAYOUTS.get(name).example.answer, str):
            with pytest.raises(Unsure, match="set"):
                load_dataset(source)
        else:
            with load_dataset(source) as dataset:
                assert counts(dataset) == counts(read(paths, texts))


@pytest.mark.parametrize("name", LAYOUTS.names())
def test_a_layout_can_be_asked_for(name: str) -> None:
    paths, texts = images_of(name)
    if isinstance(LAYOUTS.get(name).example.answer, dict) and name != "wrapper":
        wrapped = {f"set/{path}": text for path, text in texts.items()}
        assert read([f"set/{path}" for path in paths], wrapped, layout=name).layouts[0] == name


def test_a_layout_that_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"not arranged as --layout folds says.*fold_0/"):
        read(tree("cat", "dog"), layout="folds")
    with pytest.raises(InputError, match=r"Unknown layout 'fold'.*Did you mean 'folds'"):
        read(tree("cat", "dog"), layout="fold")


# -- sides -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set/training_set", "test_set/test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Train Set", "Validation Set"),
        ("train", "eval"),
        ("TrainingData", "TestData"),
        ("train_images", "test_images"),
        ("01_train", "02_test"),
        ("imagenet_train", "imagenet_val"),
        ("train2017", "val2017"),
        ("Final_Training/Images", "Final_Test/Images"),
        ("train/images", "test/images"),
        ("train/train", "val/val"),
        ("data/train", "data/holdout"),
        ("entrenamiento", "prueba"),
        ("训练集", "测试集"),
        ("dataset/x_train", "dataset/x_test"),
    ],
)
def test_sides_however_they_are_spelt(train: str, test: str) -> None:
    listing = read(tree(*(f"{side}/{kind}" for side in (train, test) for kind in ("cat", "dog"))))
    assert counts(listing) == SIDES
    assert not listing.unused


def test_a_split_in_the_training_side_of_a_split() -> None:
    paths = tree(
        *(f"{s}/{k}" for s in ("train/train", "train/val", "test") for k in ("cat", "dog"))
    )
    assert counts(read(paths)) == {"cat": (3, 6), "dog": (3, 6)}


def test_words_that_name_classes_and_no_sides() -> None:
    listing = read(tree("train_station", "test_tube", "training_shoe"))
    assert listing.classes == ("test_tube", "train_station", "training_shoe")
    listing = read(tree("train", "bus", "plane"))
    assert listing.classes == ("bus", "plane", "train")
    assert any("'train' is taken for a class" in note for note in listing.notes)


@pytest.mark.parametrize("beside", ["runs/train", "models", "docs", "Meta", "sample_images/a"])
def test_folders_beside_the_sides_are_no_classes(beside: str) -> None:
    paths = tree("train/cat", "train/dog", "val/cat", "val/dog")
    listing = read([*paths, f"{beside}/logo.png", "cover.png"])
    assert counts(listing) == SIDES
    assert {one.path for one in listing.unused} == {
        f"{beside.split('/', maxsplit=1)[0]}/",
        "cover.png",
    }


def test_a_folder_beside_that_has_the_classes_is_told() -> None:
    listing = read(tree("train/cat", "train/dog", "test/cat", "test/dog", "extra/cat", "extra/dog"))
    assert counts(listing) == SIDES
    assert "--split train=extra takes it" in " ".join(listing.notes)
    listing = read(
        tree("train/cat", "train/dog", "test/cat", "test/dog", "extra/cat", "extra/dog"),
        split={"train": ("train", "extra"), "test": ("test",)},
    )
    assert counts(listing) == {"cat": (6, 3), "dog": (6, 3)}


def test_the_flat_sides_of_kaggle() -> None:
    paths = [f"train/{kind}.{i}.jpg" for kind in ("cat", "dog") for i in range(5)]
    paths += [f"test1/{i}.jpg" for i in range(4)]
    listing = read(paths)
    assert counts(listing) == {"cat": (5, 0), "dog": (5, 0)}
    assert [str(one) for one in listing.unused] == [
        "test1/, 4 images: no labels: its file names have none"
    ]
    assert "'train/cat.0.jpg' is 'cat'" in listing.notes[0]


def test_flat_sides_that_nothing_tells_apart_are_asked_for() -> None:
    for extra in ([], ["sample/1.jpg"]):
        with pytest.raises(Unsure, match=r"'test' \(3\), 'train' \(3\).*--layout class-folders"):
            read([*tree("train", "test"), *extra])
    listing = read(tree("train", "test"), layout="class-folders")
    assert listing.classes == ("test", "train")


def test_a_flat_side_takes_its_labels_from_a_list() -> None:
    train = tree(*(f"Train/{i}" for i in range(3)))
    table = "Width,Height,ClassId,Path\n" + "".join(
        f"{30 + i},29,{i % 3},Test/{i:05}.png\n" for i in range(6)
    )
    test = [f"Test/{i:05}.png" for i in range(6)]
    listing = read([*train, *test, *tree("Meta")], {"Test.csv": table})
    assert counts(listing) == {str(i): (3, 2) for i in range(3)}
    train = tree(*(f"Final_Training/Images/0000{i}" for i in range(3)))
    test = [f"Final_Test/Images/{i:05}.png" for i in range(6)]
    table = "Filename;Width;ClassId\n" + "".join(f"{i:05}.png;29;{i % 3}\n" for i in range(6))
    listing = read([*train, *test], {"Final_Test/Images/GT-final_test.csv": table})
    assert counts(listing) == {f"0000{i}": (3, 2) for i in range(3)}


def test_imagenet_with_a_list_of_its_validation_side() -> None:
    train = tree("ILSVRC/Data/train/n01", "ILSVRC/Data/train/n02")
    val = [f"ILSVRC/Data/val/ILSVRC2012_val_{i:08}.JPEG" for i in range(4)]
    table = "ImageId,PredictionString\n" + "".join(
        f"ILSVRC2012_val_{i:08},n0{1 + i % 2} 1 2 3 4\n" for i in range(4)
    )
    listing = read([*train, *val], {"ILSVRC/LOC_val_solution.csv": table})
    assert counts(listing) == {"n01": (3, 2), "n02": (3, 2)}


def test_the_column_that_holds_the_classes_counts_for_more_than_its_name() -> None:
    train = tree("train/cat", "train/dog")
    val = [f"val/{i}.png" for i in range(4)]
    table = "image,label,what\n" + "".join(
        f"{i},{i % 2},{('cat', 'dog')[i % 2]}\n" for i in range(4)
    )
    assert counts(read([*train, *val], {"val.csv": table})) == {"cat": (3, 2), "dog": (3, 2)}


def test_a_table_far_too_long_for_the_images_is_left_unread() -> None:
    paths = tree("cat", "dog")
    table = "id,label\n" + "".join(f"{path},{i % 2}\n" for i, path in enumerate(paths))
    assert read(paths, {"train.csv": table}).classes == ("0", "1")
    assert read(paths, {"train.csv": table + "0,0\n" * 100_000}).classes == ("cat", "dog")


def test_texts_beside_a_strangers_images_are_read_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = {f"{i}.cls": str(i % 2) for i in range(8)}
    images = [f"{i}.png" for i in range(8)]
    monkeypatch.setattr("metad2a.datasets.layout.LIMITS", replace(LIMITS, text_bytes=8))
    assert read(images, labels).classes == ("0", "1")
    monkeypatch.setattr("metad2a.datasets.layout.LIMITS", replace(LIMITS, text_bytes=6))
    with pytest.raises(InputError, match=r"texts beside the images .* limit"):
        read(images, labels)
    token = strangers.set(False)
    try:
        assert read(images, labels).classes == ("0", "1")
    finally:
        strangers.reset(token)


def test_a_flat_validation_side_without_a_list_is_told() -> None:
    listing = read([*tree("train/n01", "train/n02"), *tree("val")])
    assert counts(listing) == {"n01": (3, 0), "n02": (3, 0)}
    assert "3 images in 'val' are not used" in listing.notes[0]
    listing = read([*tree("train/n01", "train/n02"), *tree("test/unknown")])
    assert counts(listing) == {"n01": (3, 0), "n02": (3, 0)}
    assert listing.unused[0].path == "test/"


def test_a_side_of_one_class() -> None:
    listing = read(tree("train/cat", "train/dog", "test/cat"))
    assert counts(listing) == {"cat": (3, 3), "dog": (3, 0)}
    listing = read(tree("train/cat", "val/cat", "val/dog"))
    assert counts(listing) == {"cat": (3, 3), "dog": (0, 3)}


def test_only_a_test_side_is_no_side() -> None:
    listing = read(tree("test/cat", "test/dog"))
    assert counts(listing) == BOTH
    assert "only a test side" in listing.notes[0]


def test_the_side_below_the_class() -> None:
    paths = tree(*(f"{kind}/{side}" for kind in ("cat", "dog") for side in ("train", "test")))
    assert counts(read(paths)) == SIDES
    paths = tree(*(f"{side}_{kind}" for kind in ("cat", "dog") for side in ("train", "test")))
    assert counts(read(paths)) == SIDES
    paths = tree("trainA", "trainB", "testA", "testB")
    assert counts(read(paths)) == {"A": (3, 3), "B": (3, 3)}


def test_a_collection_of_sets_is_asked_for() -> None:
    paths = tree(
        *(f"{s}/{d}/{k}" for s in ("bolt", "nut") for d in ("train", "test") for k in "ab")
    )
    with pytest.raises(Unsure, match="each looks like a set of its own"):
        read(paths)
    paths = tree(
        *(
            f"{s}/{d}"
            for s in ("bolt", "nut")
            for d in ("train/good", "test/good", "test/bent", "ground_truth/bent")
        )
    )
    with pytest.raises(Unsure, match=r"'bolt' \(12\), 'nut' \(12\)"):
        read(paths)


# -- copies, folds, masks, other folders -------------------------------------------------------


def test_copies_inside() -> None:
    inner = tree("train/cat", "train/dog", "test/cat", "test/dog")
    paths = [*inner, *(f"chest/{path}" for path in inner), "__MACOSX/chest/train/cat/._img_000.png"]
    for wrap in ("", "chest/"):
        listing = read([wrap + path for path in paths])
        assert counts(listing) == SIDES
        assert [one.reason for one in listing.unused] == ["a copy of what lies beside it"]
    # More than a copy: said.
    listing = read([*paths, "chest/train/cat/new.png"])
    assert "1 of its images do not lie beside it" in listing.notes[0]


def test_a_copy_in_a_copy() -> None:
    listing = read(tree(*(f"{top}{kind}" for top in ("", "a/", "a/a/") for kind in ("cat", "dog"))))
    assert counts(listing) == BOTH


def test_a_set_beside_what_it_was_made_of() -> None:
    made = tree(*(f"split/{side}/{kind}" for side in ("train", "val") for kind in ("cat", "dog")))
    listing = read([*made, *tree("original/cat", "original/dog")])
    assert counts(listing) == SIDES
    assert "'split' is read, which has split folders, and not 'original' (6)" in listing.notes[0]


def test_folds_beside_a_test_side() -> None:
    listing = read(
        tree(*(f"{top}/{kind}" for top in ("f/fold1", "f/fold2", "f/test") for kind in "ab"))
    )
    assert counts(listing) == {"a": (6, 3), "b": (6, 3)}
    with pytest.raises(Unsure, match="numbered parts of a set"):
        read(tree("HAM_images_part_1", "HAM_images_part_2"))


def test_tables_that_hold_no_labels_or_those_of_a_side_only() -> None:
    train, test = tree("Train/0", "Train/1"), [f"Test/{i:05}.png" for i in range(4)]
    tables = {
        "Train.csv": "Width,ClassId,Path\n" + "".join(f"29,{p[6]},{p}\n" for p in train),
        "Test.csv": "Width,ClassId,Path\n"
        + "".join(f"53,{i % 2},{p}\n" for i, p in enumerate(test)),
        "Meta.csv": "Path,ClassId\n" + "".join(f"{p},{i}\n" for i, p in enumerate(tree("Meta"))),
    }
    assert counts(read([*train, *test, *tree("Meta")], tables)) == {"0": (3, 2), "1": (3, 2)}
    birds = tree("CUB/images/001.Black", "CUB/images/002.Laysan")
    ids = "".join(f"{i} {path.removeprefix('CUB/images/')}\n" for i, path in enumerate(birds, 1))
    assert read(birds, {"CUB/images.txt": ids}).classes == ("001.Black", "002.Laysan")


def test_two_tables_with_other_labels_are_told() -> None:
    paths = [f"images/{i}.png" for i in range(6)]
    first = "id,class\n" + "".join(f"{i},{('cat', 'dog')[i % 2]}\n" for i in range(6))
    second = "id,label\n" + "".join(f"{i},{i // 3}\n" for i in range(6))
    listing = read(paths, {"a.csv": first, "b.csv": second})
    assert counts(listing) == BOTH
    assert listing.notes == (
        "'b.csv' has other labels than 'a.csv', whose are taken. --labels b.csv takes the others.",
    )


@pytest.mark.parametrize("text", ["", "file_name,width\n", '{"file_name": "x", "caption": "y"}\n'])
def test_metadata_without_labels_leaves_the_folders(text: str) -> None:
    assert counts(read(tree("train/cat", "train/dog"), {"train/metadata.csv": text + " "})) == BOTH


def test_folders_at_two_depths_are_told() -> None:
    listing = read(tree("objects/cat", "objects/dog", "others"))
    assert listing.classes == ("objects", "others")
    assert "say --classes-at 'objects/{class}'" in listing.notes[0]
    listing = read(tree("cat", "dog", "samples", "unlabeled"))
    assert listing.classes == ("cat", "dog", "samples")
    assert any("'samples' is taken for a class" in note for note in listing.notes)


def test_folds() -> None:
    paths = tree(*(f"fold_{i}/{kind}" for i in range(3) for kind in ("cat", "dog")))
    listing = read(paths)
    assert counts(listing) == {"cat": (9, 0), "dog": (9, 0)}
    assert "--split test=fold_2" in listing.notes[0]
    assert counts(read(paths, split={"test": ("fold_2",)})) == {"cat": (6, 3), "dog": (6, 3)}
    sides = [f"{fold}/{side}/{k}" for fold in "12" for side in ("train", "val") for k in "ab"]
    listing = read(tree(*(f"Fold {one}" for one in sides)))
    assert counts(listing) == {"a": (3, 3), "b": (3, 3)}
    assert [one.path for one in listing.unused] == ["Fold 2/"]
    with pytest.raises(Unsure, match="numbered parts of a set"):
        read(tree("fold1", "fold2", "fold3"))


def test_mvtec_with_its_masks() -> None:
    listing = read(tree("train/good", "test/good", "test/cut", "ground_truth/cut"))
    assert counts(listing) == {"cut": (0, 3), "good": (3, 3)}
    assert listing.unused[0].path == "ground_truth/"
    assert "'cut' stands in the test side only" in listing.notes[0]
    both = read(
        tree("train/good", "test/good", "test/cut", "ground_truth/cut"),
        split={"train": ("train", "test")},
    )
    assert counts(both) == {"cut": (3, 0), "good": (6, 0)}


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("{}.jpg", "{}.png"),
        ("benign ({}).png", "benign ({})_mask.png"),
        ("{}.png", "{}_mask_1.png"),
        ("scan {}.tif", "scan {}-Segmentation.png"),
    ],
)
def test_masks_among_the_pictures(tmp_path: Path, pictures: str, masks: str) -> None:
    paths = [f"{kind}/{pictures.format(i)}" for kind in ("cat", "dog") for i in range(3)]
    build(tmp_path, paths)
    for kind in ("cat", "dog"):
        for i in range(3):
            Image.new("L", (16, 16), 255).save(tmp_path / kind / masks.format(i))
    dataset = load_dataset(tmp_path)
    assert counts(dataset) == BOTH
    assert "6 images such as" in dataset.notes[0] and len(dataset.unused) == 2
    assert len(load_dataset(tmp_path, classes_at="{class}")) == 12


def test_pictures_that_are_called_like_masks() -> None:
    paths = ["cat/1.jpg", "cat/1.png", "cat/2.jpg", "cat/2.png", "dog/1_mask.png", "dog/2_mask.png"]
    assert counts(read(paths)) == {"cat": (4, 0), "dog": (2, 0)}  # The first bytes say no mask.


def test_masks_in_the_folders_of_the_classes() -> None:
    folders = [f"{kind}/{what}" for kind in ("cat", "dog") for what in ("images", "masks")]
    listing = read(tree(*folders))
    assert counts(listing) == BOTH and not listing.notes
    assert [one.path for one in listing.unused] == ["cat/masks/", "dog/masks/"]


def test_numbered_folders_of_pictures_are_asked_for() -> None:
    with pytest.raises(Unsure, match="names of parts of a set, not of classes"):
        read(tree("images_001", "images_002"))
    with pytest.raises(Unsure, match="names of parts of a set, not of classes"):
        read(tree("images_001/images", "images_002/images"))


def test_one_hot_tables_in_split_folders_beside_other_texts() -> None:
    paths = [*(f"train/{i}.jpg" for i in range(4)), *(f"valid/v{i}.jpg" for i in range(4))]
    table = "filename, cat, dog\n"
    texts = {
        "README.dataset.txt": "Pictures of cats and dogs.\n",
        "train/_classes.csv": table + "".join(f"{i}.jpg,{i % 2},{1 - i % 2}\n" for i in range(4)),
        "valid/_classes.csv": table + "".join(f"v{i}.jpg,{i % 2},{1 - i % 2}\n" for i in range(4)),
    }
    assert counts(read(paths, texts)) == {"cat": (2, 2), "dog": (2, 2)}
    with pytest.raises(Unsure) as asked:
        read(paths, {"README.dataset.txt": "Pictures of cats and dogs.\n"})
    assert "README" not in str(asked.value)


def test_masks_beside_class_folders() -> None:
    listing = read(tree("images/cat", "images/dog", "masks/cat", "masks/dog"))
    assert counts(listing) == BOTH
    listing = read(tree("with_mask", "without_mask"))
    assert listing.classes == ("with_mask", "without_mask")
    with pytest.raises(Unsure, match="none in a class folder"):
        read(tree("images", "masks"))


@pytest.mark.parametrize("name", ["data", "images", "raw-img"])
def test_a_folder_of_class_folders_beside_others(name: str) -> None:
    listing = read([*tree(f"{name}/cat", f"{name}/dog", "docs"), "README.png"])
    assert counts(listing) == BOTH
    assert {one.path for one in listing.unused} == {"docs/", "README.png"}


def test_folders_of_programs_beside_classes() -> None:
    listing = read(tree("cat", "dog", "runs/exp1", "wandb"))
    assert counts(listing) == BOTH
    assert "'runs', 'wandb'" in listing.notes[0]
    assert read(tree("docs", "cat")).classes == ("cat", "docs")


def test_the_same_folders_in_all_are_asked_for() -> None:
    paths = tree(
        *(f"{site}/images/{kind}" for site in ("amazon", "dslr") for kind in ("mug", "pen"))
    )
    with pytest.raises(Unsure, match=r"'amazon' \(6\), 'dslr' \(6\)") as caught:
        read(paths)
    assert "--classes-at '*/*/{class}'" in str(caught.value)
    assert counts(read(paths, classes_at="*/*/{class}")) == {"mug": (6, 0), "pen": (6, 0)}
    assert read(paths, layout="class-folders").classes == ("amazon", "dslr")


def test_classes_of_classes_are_told() -> None:
    listing = read(tree("fruit/apple", "fruit/pear", "tool/saw", "tool/axe"))
    assert listing.classes == ("fruit", "tool")
    assert "there would be 4, such as 'apple': --classes-at '*/{class}'" in listing.notes[0]


# -- objects in pictures -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "texts", "name"),
    [
        (tree("train2017", "val2017"), {"annotations/instances_val2017.json": "{}"}, "COCO"),
        (tree("train", "valid"), {"train/_annotations.coco.json": "{}"}, "COCO"),
        (
            tree("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/SegmentationClass"),
            {f"VOCdevkit/VOC2012/Annotations/img_00{i}.xml": "<a/>" for i in range(3)},
            "Pascal VOC",
        ),
        (tree("images"), {f"images/img_00{i}.xml": "<a/>" for i in range(3)}, "Pascal VOC"),
        (
            tree("images/train", "images/val"),
            {f"labels/train/img_00{i}.txt": "1 0.5 0.5 0.1 0.1\n" for i in range(3)},
            "YOLO",
        ),
        (tree("obj"), {f"obj/img_00{i}.txt": "1 0.5 0.5 0.1 0.1\n" for i in range(3)}, "YOLO"),
    ],
)
def test_objects_in_pictures_have_no_one_label(
    paths: list[str], texts: dict[str, str], name: str
) -> None:
    for wrap in ("", "set/"):
        with pytest.raises(Unsure, match=f"{name}.*no one label"):
            read([wrap + path for path in paths], {wrap + path: t for path, t in texts.items()})


def test_class_folders_with_boxes_beside_are_class_folders() -> None:
    listing = read(tree("cat", "dog"), {"_annotations.coco.json": "{}"})
    assert counts(listing) == BOTH


# -- labels in file names ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "{kind}.{i}.jpg",
        "{kind}_{i}.jpg",
        "{kind}{i}.png",
        "{kind} ({i}).jpg",
        "{kind}-{i:05}.jpg",
        "{i:04}_{kind}.png",
        "{i}-{kind}.png",
        "images/{kind}_{i}.jpg",
        "{kind}_a{i}f{i}c.jpg",
    ],
)
def test_labels_in_names(pattern: str) -> None:
    kinds = ("cat", "american_pit_bull") if "{kind}_a" not in pattern else ("cat", "dog")
    listing = read(pattern.format(kind=kind, i=i) for kind in kinds for i in range(5))
    assert counts(listing) == dict.fromkeys(kinds, (5, 0))
    assert "taken from the names of the files" in listing.notes[0]


def test_numbers_in_names_are_labels_where_the_rest_is_unlike() -> None:
    paths = [
        f"{side}/{i % 3}_{i + 50 * (side == 'test')}.png"
        for side in ("train", "test")
        for i in range(12)
    ]
    assert counts(read(paths)) == {str(k): (4, 4) for k in range(3)}
    with pytest.raises(Unsure):  # rows and columns
        read(f"{row}_{column}.png" for row in range(4) for column in range(4))


@pytest.mark.parametrize("pattern", ["IMG_{d}_{i}.jpg", "DSC{d}{i:04}.jpg", "frame {d}-{i}.png"])
def test_names_of_cameras_are_no_labels(pattern: str) -> None:
    with pytest.raises(Unsure, match="none in a class folder"):
        read(pattern.format(d=20240100 + d, i=i) for d in range(3) for i in range(5))


# -- one class spelt in two ways ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("golden_retriever", "golden retriever"),
        ("Golden-Retriever", "golden_retriever"),
        ("caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")),
        ("01", "1"),
    ],
)
def test_two_spellings_on_two_sides_are_one_class(one: str, other: str) -> None:
    listing = read(tree(f"train/{one}", "train/zebra", f"val/{other}", "val/zebra"))
    assert counts(listing) == {one: (3, 3), "zebra": (3, 3)}
    assert any(repr(one) in note for note in listing.notes)


def test_a_sign_is_no_separator() -> None:
    listing = read(tree("train/1", "train/-1", "val/-1", "val/1"))
    assert counts(listing) == {"-1": (3, 3), "1": (3, 3)}
    assert not listing.notes


def test_two_spellings_on_one_side() -> None:
    listing = read(tree("Cat", "cat", "dog"))
    assert listing.classes == ("Cat", "cat", "dog")
    assert "taken for two classes" in listing.notes[0]
    form = unicodedata.normalize("NFD", "é")
    assert read(tree("é", form, "dog")).classes in (("dog", "é"), ("dog", form))


# -- what the user says ------------------------------------------------------------------------


def test_patterns() -> None:
    paths = ["a/train/x_1.png", "a/train/y_1.png", "b/test/x_2.png", "b/test/y_2.png", "z.png"]
    listing = read(paths, classes_at="*/{split}/{class}_*")
    assert counts(listing) == {"x": (1, 1), "y": (1, 1)}
    assert [one.path for one in listing.unused] == ["./"]
    with pytest.raises(InputError, match=r"has no \{class\}"):
        read(paths, classes_at="*/train")
    with pytest.raises(InputError, match=r"No path is like .*'z.png'"):
        read(paths, classes_at="{class}/b/c/*")


def test_sides_that_the_user_names() -> None:
    paths = tree("one/cat", "one/dog", "two/cat", "two/dog", "three/cat")
    listing = read(paths, split={"train": ("one",), "val": ("t*",)})
    assert counts(listing) == {"cat": (3, 6), "dog": (3, 3)}
    listing = read(paths, split={"train": ("one",), "test": ("two",)})
    assert counts(listing) == SIDES
    assert [one.reason for one in listing.unused] == ["named for no side"]
    with pytest.raises(InputError, match=r"no images in a folder 'four'.*'one'"):
        read(paths, split={"train": ("four",)})
    with pytest.raises(InputError, match="'trian' is no side"):
        read(paths, split={"trian": ("one",)})


def test_keywords_of_load_dataset(tmp_path: Path) -> None:
    root = build(tmp_path, tree("one/cat", "one/dog", "two/cat", "two/dog"))
    with pytest.raises(Unsure):
        load_dataset(root)
    assert counts(load_dataset(root, classes_at="*/{class}")) == {"cat": (6, 0), "dog": (6, 0)}
    assert counts(load_dataset(root, split={"train": "one", "test": "two"})) == SIDES
    (tmp_path / "labels.csv").write_text(
        "file_name,label\n" + "".join(f"one/cat/img_00{i}.png,{'ab'[i % 2]}\n" for i in range(3))
    )
    assert load_dataset(root, labels=tmp_path / "labels.csv").classes == ("a", "b")
    assert load_dataset(root, labels="labels.csv").classes == ("a", "b")
    with pytest.raises(InputError, match="does not exist"):
        load_dataset(root, labels="other.csv")
    with pytest.raises(InputError, match="brings its own labels"):
        load_dataset(root / "labels.csv", layout="folds")


# -- what is left out --------------------------------------------------------------------------


def encode(kind: str) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.effect_noise((16, 16), 50).convert("RGB").save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("JPEG", ".jfif"),
        ("JPEG", ".jpe"),
        ("JPEG", ".jfi"),
        ("MPO", ".mpo"),
        ("PPM", ".pnm"),
        ("DIB", ".dib"),
        ("TGA", ".TGA"),
        ("AVIF", ".avif"),
        ("JPEG2000", ".jp2"),
        ("PNG", ""),
        ("JPEG", ""),
        ("WEBP", ".1"),
        ("JPEG", ".jpg "),
        ("JPEG", ".jpg_large"),
        ("BMP", ".picture"),
        ("GIF", ".gif!d"),
        ("TIFF", ".tiff~"),
    ],
)
def test_endings_that_are_read(kind: str, ending: str, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(2):
            (tmp_path / label / f"{i}{ending}").write_bytes(encode(kind))
    build(tmp_path, tree("c"), {"a/notes": "no picture", "LICENSE": "P1 is no picture either"})
    report = check(load_dataset(tmp_path))
    assert (report.images, report.classes, report.skipped) == (7, 3, ())
    assert dict(report.other_files) == {"without ending": 2}


def test_kinds_that_are_not_read_are_counted(tmp_path: Path) -> None:
    texts = {f"a/{i}.svg": "<svg/>" for i in range(3)} | {"b/x.dcm": "x", "readme.md": "x"}
    (build(tmp_path, tree("c", "d"), texts) / "empty").mkdir()
    dataset = load_dataset(tmp_path)
    assert dataset.kinds == {".svg": 3, ".dcm": 1, ".md": 1}
    notes = " ".join(dataset.notes)
    assert "'a' (3 .svg), 'b' (1 .dcm), 'empty' (empty), beside the class folders" in notes
    assert "cannot be read: 1 .dcm, 3 .svg" in notes
    assert [one.path for one in dataset.unused] == ["a/", "b/", "empty/"]


def test_heic_says_how_it_is_read(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"among 2 \.heic.*pip install 'metad2a\[heif\]'"):
            load_dataset(tmp_path)
    else:
        assert len(load_dataset(tmp_path)) == 2


def test_links_to_folders_are_read_once_and_said(tmp_path: Path) -> None:
    root = build(tmp_path / "set", tree("train/cat", "train/dog"))
    (root / "val").symlink_to("train")
    (root / "train" / "apple").symlink_to("cat")
    (root / "train" / "cat" / "up").symlink_to(root)
    dataset = load_dataset(root)
    assert counts(dataset) == BOTH
    reasons = {one.path: one.reason for one in dataset.unused}
    assert reasons["val/"] == "a link to train/, which is read already"
    assert reasons["train/apple/"] == "a link to train/cat/, which is read already"
    assert "val/ (a link to train/" in " ".join(dataset.notes)


def test_two_links_to_one_folder(tmp_path: Path) -> None:
    store = build(tmp_path / "store", tree("x", "y"))
    root = tmp_path / "set"
    root.mkdir()
    for name, place in (("b", "x"), ("a", "x"), ("c", "y")):
        (root / name).symlink_to(store / place)
    dataset = load_dataset(root)
    assert dataset.classes == ("a", "c")  # by name, not by the system's order
    assert [one.path for one in dataset.unused] == ["b/"]


def test_folders_that_cannot_be_opened_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path, tree("a", "b", "c"))
    scandir = os.scandir

    def refused(place: str) -> Any:
        if str(place).rstrip("/").endswith("/c"):
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    dataset = load_dataset(root)
    assert dataset.classes == ("a", "b")
    assert "c/ (cannot be opened: Permission denied)" in " ".join(dataset.notes)


# -- the command -------------------------------------------------------------------------------


def test_check_lists_classes_and_what_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = build(
        tmp_path, tree("train/cat", "train/dog", "val/cat", "val/dog", "runs"), {"a.txt": "x"}
    )
    assert main(["check", str(root)]) == 0
    text = capsys.readouterr().out
    for words in (
        "cat",
        "6 (3 train, 3 validation or test)",
        "Not used:",
        "runs/, 3 images",
        "1 .txt",
    ):
        assert words in text
    assert main(["check", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["class_counts"][1] == {"name": "dog", "images": 6, "train": 3, "test": 3}
    assert found["unused"] == [
        {"path": "runs/", "images": 3, "reason": "it stands beside the split folders"}
    ]
    assert found["layouts"] == ["split-folders", "class-folders"]
    assert found["other_files"] == {".txt": 1}


def test_options_of_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = build(tmp_path, tree("one/cat", "one/dog", "two/cat", "two/dog"))
    assert main(["check", str(root)]) == 3
    assert "--classes-at '*/{class}'" in capsys.readouterr().err

    def classes(*options: str) -> list[str]:
        assert main(["check", str(root), "--json", *options]) == 0
        return [one["name"] for one in json.loads(capsys.readouterr().out)["class_counts"]]

    assert classes("--classes-at", "*/{class}") == ["cat", "dog"]
    assert classes("--layout", "class-folders") == ["one", "two"]
    assert classes("--split", "train=one", "--split", "test=two") == ["cat", "dog"]
    assert main(["check", str(root), "--split", "one"]) == 2
    assert "is no SIDE=FOLDER" in capsys.readouterr().err
