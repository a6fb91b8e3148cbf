"""What names of folders and files say: sides of a split, pictures, masks, output of programs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from metad2a.datasets.layout import SPLITS, Folder


def _split(text: str) -> list[str]:
    return text.split()


UNLABELLED = 2
"""Stands for the side of images that nobody has labelled."""
_SIDES = {
    **SPLITS,
    "trn": 0,
    "tst": 1,
    "heldout": 1,
    **dict.fromkeys(
        ("entrenamiento", "entrainement", "treino", "treinamento", "обучение", "训练", "訓練"), 0
    ),
    **dict.fromkeys(
        _split(
            "prueba pruebas teste testes validacion validacao validierung тест проверка 测试 验证 "
            "測試 驗證 テスト 検証"
        ),
        1,
    ),
    **dict.fromkeys(
        ["pred", "predict", "prediction", "unlabeled", "unlabelled", "unsup", "submission"],
        UNLABELLED,
    ),
}
_ADDED = frozenset(
    _split(
        "set sets data dataset images image imgs img pictures pics photos jpg jpeg png "
        "folder dir split final full part zip x"
    )
)
"""Words beside a side's that change nothing: 'Train Set', 'test_images'."""
PICTURES = frozenset(
    _split(
        "images image imgs img jpegimages pictures pics photos photo jpg jpeg jpegs png "
        "pngs rgb data dataset datasets raw raw-img allimages all"
    )
)
"""Names, in lower case, of folders that hold pictures and are no class."""
MASKS = frozenset(
    _split(
        "annotation annotations anno annos mask masks label labels ground_truth "
        "groundtruth ground-truth gt trimap trimaps seg segmentation segmentations "
        "segmentationclass segmentationobject bbox bboxes boxes depth heatmap heatmaps "
        "edges xml xmls imagesets"
    )
)
"""Names, in lower case, of folders that hold what belongs to pictures elsewhere."""
PROGRAMS = frozenset(
    _split(
        "models runs wandb mlruns lightning_logs tensorboard tb_logs logs checkpoints weights "
        "__pycache__ docs results output outputs predictions notebooks scripts src"
    )
)
"""Names, in lower case, of folders that programs and repositories have beside data."""
DOUBTFUL = frozenset(
    _split(
        "figures plots screenshots tmp temp backup old examples samples sample sample_images "
        "thumbnails thumbs previews cache misc demo archive new"
    )
)
"""Names, in lower case, that are told of where they are taken for classes."""
_GENERAL = frozenset(
    _split(
        "img image images dsc dscn dscf p pxl photo pic picture pict frame screenshot "
        "scan scanned file sample untitled whatsapp vid video crop patch tile ilsvrc "
        "ilsvrc2012 coco mvimg item thumb"
    )
) | frozenset(_SIDES)
"""First words of names that cameras and programs give: they are no labels."""


def words(name: str) -> list[str]:
    """Return the words of a name in lower case without accents; digits and signs part them."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", spaced) if unicodedata.category(c) != "Mn"
    )
    return re.findall(r"[^\W\d_]+", unicodedata.normalize("NFC", plain.casefold()))


def is_general(label: str) -> bool:
    """Whether a label begins with a word that cameras and programs begin names with."""
    found = words(label)
    return bool(found) and found[0] in _GENERAL


def side_and_rest(name: str) -> tuple[int, tuple[str, ...]] | None:
    """Return the side that a folder's name tells, and the words in it that tell something else."""
    sides, rest = [], []
    for word in words(name):
        stem = re.sub(r"(?<=.)(set|data|images|imgs|folder|集|セット)$", "", word)
        side = _SIDES.get(word, _SIDES.get(stem))
        if side is None and word == "trainval":
            side = 0
        if side is not None:
            sides.append(side)
        elif word not in _ADDED:
            rest.append(word)
    if len(sides) == 2 and sides == [0, 1] and not rest:
        return 0, ()  # train_val: what may be trained on
    return (sides[0], tuple(rest)) if len(sides) == 1 else None


def sides_of(folders: Iterable[Folder]) -> dict[str, int]:
    """Return the sides of those folders whose names tell one, with what stands beside in mind.

    ``seg_train`` and ``seg_test`` tell sides since they differ in nothing else; ``train_station``
    and ``test_tube`` do not.
    """
    told = {folder.name: side_and_rest(folder.name) for folder in folders}
    sides: dict[str, int] = {}
    for name, found in told.items():
        if found is None:
            continue
        side, rest = found
        partners = {other[0] for other in told.values() if other is not None and other[1] == rest}
        if not rest or len(partners) > 1:
            sides[name] = side
    return sides
