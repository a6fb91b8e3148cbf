"""Predictions from a folder: what can be asked about, what is refused, the command."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_export_folder import NAMES, cell, delivery

from metad2a.cli import main
from metad2a.errors import ArtifactError, InputError
from metad2a.export.folder import save
from metad2a.prediction import Predictor, load, predict

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("prediction") / "model"
    save(delivery(cell), place, onnx=False)
    return place


@pytest.fixture
def pictures(tmp_path):
    """A folder of two pictures, one of them deeper, and of files that are none."""
    place = tmp_path / "pictures"
    (place / "deeper").mkdir(parents=True)
    Image.fromarray(PICTURE).save(place / "a.png")
    Image.fromarray(PICTURE[:, :20]).save(place / "deeper" / "b.PNG")
    (place / "notes.txt").write_text("none", encoding="utf-8")
    (place / ".hidden.png").write_bytes(b"")
    return place


def close(found, expected):
    """Whether two predictions of one picture are alike; batches round differently."""
    shares, others = dict(found.top), dict(expected.top)
    return shares.keys() == others.keys() and all(
        abs(share - others[name]) < 1e-5 for name, share in shares.items()
    )


def test_sources_of_every_kind(folder, pictures):
    path, tensor = pictures / "a.png", torch.from_numpy(PICTURE).permute(2, 0, 1)
    [expected] = predict(folder, path)
    assert expected.file == str(path) and expected.label == expected.top[0][0] in NAMES
    assert expected.probability == expected.top[0][1] and len(expected.top) == 3
    image = Image.fromarray(PICTURE)
    for source in (str(path), [path], image, [image], PICTURE, tensor, PICTURE[None], tensor[None]):
        [found] = predict(folder, source)
        assert close(found, expected)
    mixed = predict(folder, [pictures, image, PICTURE / 255.0])
    assert [p.file for p in mixed] == [
        *(str(pictures / name) for name in ("a.png", "deeper/b.PNG")),
        "image 2",
        "image 3",
    ]
    assert close(mixed[2], expected) and close(mixed[3], expected)
    assert not close(mixed[1], expected)


def test_as_many_labels_as_there_are(folder):
    [found] = predict(folder, PICTURE, top=100)
    assert sorted(name for name, _ in found.top) == sorted(NAMES)
    shares = [share for _, share in found.top]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-5
    for top in (0, -1):
        with pytest.raises(InputError, match=f"top={top} names no class"):
            predict(folder, PICTURE, top=top)


def test_more_than_a_batch_in_order(folder):
    rng = np.random.default_rng(1)
    many = rng.integers(0, 256, (70, 12, 9, 3), dtype=np.uint8)
    predictor, seen = load(folder), []
    found = list(predictor.each(many, progress=lambda done, total: seen.append((done, total))))
    assert len(found) == 70 and seen == [(32, 70), (64, 70), (70, 70)]
    [last] = predictor.predict(many[69])
    assert close(found[69], last)


def test_a_picture_as_shown_by_viewers(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PICTURE).save(tmp_path / "turned.png", exif=exif)
    [found], [expected] = (
        predict(folder, tmp_path / "turned.png"),
        predict(folder, np.rot90(PICTURE, -1)),
    )
    assert close(found, expected)
    with Image.open(tmp_path / "turned.png") as opened:
        [found] = predict(folder, opened)
    assert close(found, expected)


def test_what_cannot_be_read_is_told_and_passed_over(folder, pictures):
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "text.jpg").write_bytes(b"no image at all")
    (pictures / "torn.png").write_bytes((pictures / "a.png").read_bytes()[:2000])
    (pictures / "link.png").symlink_to(pictures / "nowhere.png")
    wrong = np.zeros((5, 5, 7), dtype=np.uint8)
    found = predict(folder, [pictures, "no/such.png", "nul\0.png", wrong])
    errors = {p.file.rpartition("/")[2]: p.error for p in found if p.error}
    assert errors == {
        "empty.jpg": "empty file",
        "link.png": "cannot be read: No such file or directory",
        "text.jpg": "not an image",
        "torn.png": "truncated",
        "such.png": "cannot be read: No such file or directory",
        "nul\0.png": "cannot be read: no such file",
        "image 8": "an array of shape (5, 5, 7)",
    }
    assert sum(p.error is None for p in found) == 2
    [bad] = [p for p in found if p.file.endswith("text.jpg")]
    assert (bad.label, bad.probability, bad.top) == (None, None, ())
    assert str(bad).endswith("text.jpg: not an image")


def test_sources_that_are_none(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        predict(folder, tmp_path / "empty")
    for source in (7, [7], {"a": 1}.items(), None):
        with pytest.raises(InputError, match="A picture cannot be a"):
            predict(folder, source)
    assert predict(folder, []) == []


def test_a_network_in_memory(folder):
    one = delivery(cell)
    [found], [expected] = Predictor.of(one).predict(PICTURE), predict(folder, PICTURE)
    assert close(found, expected)


def rewrite(folder, name, **changes):
    """Change values of a JSON file; None takes one away."""
    path = folder / name
    data = json.loads(path.read_text(encoding="utf-8")) | changes
    data = {key: value for key, value in data.items() if value is not None}
    path.write_text(json.dumps(data), encoding="utf-8")


def config(**changes):
    return {
        "file": "nasbench201",
        "class": "CellNetwork",
        "config": {**delivery(cell).network.config, **changes},
    }


NORMAL = {"mean": [0.5] * 3, "deviation": [0.5] * 3}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("architecture.json", {"format_version": 1}, "of no trained network"),
        ("architecture.json", {"format_version": 3}, "newer metad2a"),
        ("architecture.json", {"format_version": True}, "of no trained network"),
        ("architecture.json", {"weights": None}, "of no trained network"),
        ("architecture.json", {"weights": {"sha256": "0" * 64}}, "SHA-256"),
        ("architecture.json", {"network": None}, "kind of network"),
        ("architecture.json", {"network": {"file": "../../os"}}, "kind of network"),
        ("architecture.json", {"network": config() | {"class": "cast"}}, "class of a network"),
        ("architecture.json", {"network": config() | {"class": "__name__"}}, "class of a network"),
        ("architecture.json", {"network": config(cells=10**9)}, "out of range"),
        ("architecture.json", {"network": config(channels=10**9)}, "out of range"),
        ("architecture.json", {"network": config(channels=-1)}, "out of range"),
        ("architecture.json", {"network": config(channels=10**5)}, "does not fit the network"),
        ("architecture.json", {"network": config(channels=8)}, "does not fit the network"),
        ("architecture.json", {"network": config(edges={"0->3": "rm -r"})}, "make no network"),
        ("architecture.json", {"network": config(unknown=1)}, "make no network"),
        ("labels.json", {"4": None}, "but the network has 5"),
        ("labels.json", {"3": None}, "does not name the classes"),
        ("labels.json", {"3": 7}, "does not name the classes"),
        ("preprocessing.json", {"resolution": "32"}, "for resolution"),
        ("preprocessing.json", {"resolution": 10**6}, "for resolution"),
        ("preprocessing.json", {"fit": "squash"}, "'squash' for fit"),
        ("preprocessing.json", {"normalisation": NORMAL | {"mean": [0.5]}}, "for the mean"),
        ("preprocessing.json", {"normalisation": NORMAL | {"deviation": [0, 1, 1]}}, "deviation"),
        ("preprocessing.json", {"normalisation": NORMAL | {"mean": [1e300, 1, 1]}}, "for the mean"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_strangers_folder_is_checked(folder, tmp_path, name, changes, words):
    copied = tmp_path / "model"
    copied.mkdir()
    for path in folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert load(copied).classes == tuple(NAMES)
    rewrite(copied, name, **changes)
    with pytest.raises(ArtifactError, match=words) as caught:
        load(copied)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["architecture.json", "labels.json", "preprocessing.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b" " * 2**25])
def test_damaged_texts(folder, tmp_path, name, content):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name}.*is damaged"):
        load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}.*cannot be read"):
        load(tmp_path)


def test_damaged_weights(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="SHA-256"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*cannot be read"):
        load(tmp_path)


def test_weights_that_are_no_numbers(tmp_path):
    one = delivery(cell)
    with torch.no_grad():
        one.network.classifier.bias[0] = float("nan")
    save(one, tmp_path / "out", onnx=False)
    with pytest.raises(ArtifactError, match="not finite"):
        load(tmp_path / "out")


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.py").write_text("raise SystemExit", encoding="utf-8")
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "model.pt")
    assert predict(tmp_path, PICTURE)[0].label in NAMES
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="SHA-256"):
        load(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="There is no folder"):
        predict(tmp_path / "nowhere", PICTURE)


def run(capsys, *arguments):
    """Return the exit code, and what went to standard output and error."""
    code = main(["predict", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command_prints_a_line_an_image(capsys, folder, pictures):
    (pictures / "empty.jpg").write_bytes(b"")
    code, out, error = run(capsys, folder, pictures, "--top", 2)
    expected = predict(folder, [pictures / "a.png", pictures / "deeper" / "b.PNG"], top=2)
    assert code == 0 and out == "".join(f"{one}\n" for one in expected)
    assert error == f"{pictures / 'empty.jpg'}: empty file\n"


def test_the_command_prints_json(capsys, folder, pictures):
    (pictures / "empty.jpg").write_bytes(b"")
    code, out, _ = run(capsys, folder, pictures, "--json")
    first, second, bad = sorted(json.loads(out), key=lambda one: "empty" in one["file"])
    [expected] = predict(folder, pictures / "a.png")
    assert code == 0 and list(first) == ["file", "label", "probability", "top"]
    assert first["file"] == str(pictures / "a.png") and first["label"] == expected.label
    assert [name for name, _ in first["top"]] == [name for name, _ in expected.top]
    assert abs(first["probability"] - expected.probability) < 1e-5
    assert second["file"].endswith("b.PNG")
    assert bad == {
        "file": str(pictures / "empty.jpg"),
        "label": None,
        "probability": None,
        "top": [],
        "error": "empty file",
    }


def test_the_command_prints_csv(capsys, folder, pictures):
    (pictures / "empty.jpg").write_bytes(b"")
    code, out, _ = run(capsys, folder, pictures, "--csv", "--top", 2)
    head, *rows = csv.reader(io.StringIO(out))
    assert code == 0 and {len(row) for row in rows} == {len(head)}
    assert head == ["file", "error", "label", "probability", "label_2", "probability_2"]
    [expected] = predict(folder, pictures / "a.png")
    assert rows[0][:3] == [str(pictures / "a.png"), "", expected.label]
    assert [row[1] for row in rows] == ["", "", "empty file"]


def test_exit_codes_of_the_command(capsys, folder, tmp_path):
    code, out, error = run(capsys, folder, "nowhere.png", "--json")
    assert code == 3 and json.loads(out)[0]["label"] is None and "nowhere.png" in error
    assert run(capsys, tmp_path / "nowhere", "a.png")[0] == 3
    assert run(capsys, tmp_path, "a.png")[0] == 1
    assert run(capsys, folder)[0] == 2
    assert run(capsys, folder, "a.png", "--json", "--csv")[0] == 2
    assert run(capsys, folder, "a.png", "--top", "many")[0] == 2
    code, _, error = run(capsys, folder, "a.png", "--top", "0")
    assert code == 3 and "top=0" in error


def test_help_needs_no_torch():
    script = (
        "import sys\nfrom metad2a.cli import main\n"
        "try:\n    main(['predict', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
