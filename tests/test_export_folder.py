"""A delivered folder: whole, in all its forms the same network, and nobody's code in it."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from metad2a.datasets import load_dataset
from metad2a.datasets.batches import Batches
from metad2a.datasets.decode import decode, square
from metad2a.errors import ArtifactError, InputError
from metad2a.export import onnx_model, runtime
from metad2a.export.delivered import Delivered, read_tensors
from metad2a.export.folder import Delivery, Figures, check_free, save
from metad2a.export.model_py import code
from metad2a.prediction import predict
from metad2a.spaces import SPACES, networks
from metad2a.spaces.networks.darts import DartsNetwork
from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
from metad2a.spaces.networks.nasbench201 import CellNetwork

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
NORMAL = [
    *[["skip_connect", 0], ["skip_connect", 1], ["max_pool_3x3", 0], ["dil_conv_5x5", 1]],
    *[["avg_pool_3x3", 0], ["sep_conv_3x3", 1], ["sep_conv_5x5", 0], ["dil_conv_3x3", 1]],
]
REDUCTION = [
    *[["skip_connect", 0], ["max_pool_3x3", 1], ["dil_conv_3x3", 0], ["dil_conv_5x5", 1]],
    *[["avg_pool_3x3", 0], ["sep_conv_5x5", 1], ["sep_conv_3x3", 0], ["skip_connect", 2]],
]
NAMES = ["cat", 'dog""" \\', "<b>|*bird*", "Blüte", "five"]
MEAN, DEVIATION = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
ALONE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("metad2a", "search", "database", "safetensors", "numpy"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
import importlib.util, pathlib, torch

torch.set_num_threads(1)
for folder in sys.argv[2:]:
    spec = importlib.util.spec_from_file_location("model", pathlib.Path(folder) / "model.py")
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    images = torch.cat([model.preprocess(p) for p in sorted(pathlib.Path(sys.argv[1]).iterdir())])
    with torch.no_grad():
        logits = model.load()(images)
    torch.save({"images": images, "logits": logits, "classes": model.CLASSES}, folder + ".pt")
"""


def randomised(network, seed=0):
    """Give a network weights and statistics that no two parts share, of the usual scale."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        value.normal_(generator=generator)
        if value.ndim == 4:
            value.mul_((2 / value[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            value.abs_().add_(0.5)
        else:
            value.mul_(0.3).add_(float(name.endswith("norm.weight")))
    return network.eval()


def mobile(side=64):
    space = SPACES.get("efficientnet_lite")
    architecture = space.canonical(space.whole(5, side))
    return space, architecture, {}, side


def cell(side=32):
    space = SPACES.get("nasbench201")
    return space, space.parse(CELL), {"channels": 4, "cells": 1}, side


def delivery(kind=mobile, names=NAMES, **given):
    space, architecture, macro, side = kind()
    network = randomised(space.build(architecture, len(names), **macro))
    figures = Figures(
        params=sum(p.numel() for p in network.parameters()),
        macs=1_000,
        accuracy=81.234,
        balanced_accuracy=80.0,
        confusion=np.diag([9] * len(names)) + np.eye(len(names), k=1, dtype=int),
        curve=[(0, 40.0), (1, 70.0), (2, 81.0)],
        predicted=78.0,
        interval=(70.0, 88.0),
        plan={"rate": 5e-4, "frozen_stages": 3, "reason": "as *it* is"},
        images=1_234,
        epochs=2.0,
        seconds=61.0,
    )
    return Delivery(
        **{
            "network": network,
            "space": space.name,
            "architecture": space.format(architecture),
            "classes": names,
            "resolution": side,
            "mean": MEAN,
            "deviation": DEVIATION,
            "figures": figures,
            "report": "1,234 images | of <things> \udc80",
            **given,
        }
    )


def draw(folder):
    """Draw 50 files of odd sizes and modes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    sizes = [(9, 8), (31, 64), (64, 64), (40, 200), (200, 40), (333, 257), (64, 97), (700, 500)]
    modes = ["RGB", "L", "P", "RGBA", "CMYK", "I;16", "LA", "1", "F", "EXIF"]
    for index in range(50):
        mode, (width, height) = modes[index % 10], sizes[(index * 3 + index // 10) % 8]
        # Smooth, so that a shift by a pixel is seen, and a JPEG keeps it.
        coarse = rng.integers(0, 256, (5, 4, 4), dtype=np.uint8)
        image = Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
        name, more = f"{index:02}.png", {}
        if mode == "I;16":
            gray = np.asarray(image.convert("L"), dtype=np.uint16) * [257, 40][index // 10 % 2]
            image = Image.fromarray(gray)
        elif mode == "F":
            gray = np.asarray(image.convert("L"), dtype=np.float32)
            image, name = Image.fromarray(gray / [1, 255][index // 10 % 2]), f"{index:02}.tif"
        elif mode == "EXIF":
            image, name = image.convert("RGB"), f"{index:02}.jpg"
            more["exif"] = Image.Exif()
            more["exif"][0x0112] = [3, 6, 8, 5, 2][index // 10]
        elif mode == "CMYK":
            image, name = image.convert("CMYK"), f"{index:02}.jpg"
        elif mode == "P":
            image = image.convert("RGB").convert("P")
            more["transparency"] = index // 10
        else:
            image = image.convert(mode)
        image.save(folder / name, **more)
    return folder


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two folders, and what their model.py alone makes of 50 files."""
    place = tmp_path_factory.mktemp("delivered")
    pictures, found = draw(place / "pictures"), {}
    for kind in (mobile, cell):
        one = delivery(kind)
        saved = save(one, place / kind.__name__)
        found[kind.__name__] = (one, saved)
    folders = [str(saved.folder) for _, saved in found.values()]
    (place / "alone.py").write_text(ALONE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-IB", place / "alone.py", pictures, *folders],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return pictures, found


@pytest.mark.parametrize("name", ["mobile", "cell"])
def test_all_forms_agree_on_fifty_files(made, name):
    pictures, found = made
    one, saved = found[name]
    alone = torch.load(f"{saved.folder}.pt", weights_only=True)
    assert alone["classes"] == NAMES and len(alone["images"]) == 50
    images, logits = alone["images"].numpy(), alone["logits"].numpy()
    assert images.std((1, 2, 3)).min() > 0.01 and logits.std(0).min() > 0.02
    [of_onnx] = session(saved.folder / "model.onnx").run(["logits"], {"images": images})
    assert np.abs(of_onnx - logits).max() <= 1e-4
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    predictions = predict(saved.folder, pictures, top=len(NAMES))
    assert [Path(p.file).name for p in predictions] == sorted(p.name for p in pictures.iterdir())
    for prediction, row in zip(predictions, shares, strict=True):
        assert prediction.label == NAMES[row.argmax()]
        told = dict(prediction.top)
        assert max(abs(told[label] - row[i]) for i, label in enumerate(NAMES)) <= 1e-4
    with torch.no_grad():
        scaled = (alone["images"] - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
            DEVIATION
        ).view(3, 1, 1)
        assert np.abs(one.network(scaled).numpy() - logits).max() <= 1e-4


def test_pictures_are_fitted_as_for_training(made, tmp_path):
    pictures, found = made
    for path in pictures.iterdir():
        (tmp_path / "data" / ("odd", "even")[int(path.stem) % 2 == 0]).mkdir(
            parents=True, exist_ok=True
        )
        target = tmp_path / "data" / ("odd", "even")[int(path.stem) % 2 == 0] / path.name
        target.write_bytes(path.read_bytes())
    for one, saved in found.values():
        with load_dataset(tmp_path / "data") as dataset:
            batches = Batches(dataset, range(len(dataset)), one.resolution)
            order = np.argsort([Path(dataset.locate(i)).name for i in range(len(dataset))])
            trained_on = batches.take(torch.from_numpy(order)).float() / 255
            # Black and white of more than 8 bits are those of the training's set, and this folder
            # is of none that had such: each picture has its own.
            for at, index in enumerate(order.tolist()):
                if dataset.spread(index) is not None:
                    own = decode(dataset.encoded(index), 2 * one.resolution)[0]
                    fitted = torch.from_numpy(square(own, one.resolution).copy())
                    trained_on[at] = fitted.permute(2, 0, 1).float() / 255
        alone = torch.load(f"{saved.folder}.pt", weights_only=True)["images"]
        assert torch.equal(trained_on, alone)


def test_what_is_in_the_folder(made):
    one, saved = made[1]["cell"]
    folder = saved.folder
    assert sorted(saved.files) == sorted(p.name for p in folder.iterdir())
    assert set(saved.files) == {
        "README.md",
        "architecture.json",
        "confusion.svg",
        "curve.svg",
        "drawing.svg",
        "labels.json",
        "model.onnx",
        "model.py",
        "model.safetensors",
        "preprocessing.json",
    }
    assert saved.notes == () and saved.int8 is None
    weights, known = load_file(folder / "model.safetensors"), one.network.state_dict()
    assert weights.keys() == known.keys()
    assert all(torch.equal(weights[name], value) for name, value in known.items())
    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert labels == {str(index): name for index, name in enumerate(NAMES)}
    described = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    assert described["accuracy"] == 81.234 and described["confusion"][0] == [9, 1, 0, 0, 0]
    assert described["network"]["config"] == one.network.config
    for name in ("confusion.svg", "curve.svg", "drawing.svg"):
        ElementTree.parse(folder / name)
    umask = folder.stat().st_mode & 0o777
    assert umask & 0o700 == 0o700 and (folder / "model.py").stat().st_mode & 0o400


def test_the_card(made):
    one, saved = made[1]["cell"]
    text = (saved.folder / "README.md").read_text(encoding="utf-8")
    head, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    assert 'license: "apache-2.0"' in head and "value: 0.8123" in head
    for words in (
        "81.2 % of 49 images",
        "80.0 %, the mean over the classes",
        "78.0 % before the training, 90 % interval 70.0 to 88.0 %",
        r"&lt;b&gt;\|\*bird\*",
        r"as \*it\* is",
        r"1,234 images \| of &lt;things&gt;",
        f"{one.figures.params:,}",
        "![Confusion matrix",
        "(curve.svg)",
        "(drawing.svg)",
        "metad2a predict",
        "onnxruntime.InferenceSession",
        "`model.onnx`",
        "ms on one CPU thread",
    ):
        assert words in body, words
    assert "<b>" not in text


def test_licence_and_origin_of_pretrained_weights(tmp_path):
    one = delivery(cell, pretrained="EfficientNet-Lite0", weights_licence="MIT")
    save(one, tmp_path / "out", onnx=False)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert 'license: "mit"' in text and "weights of EfficientNet-Lite0 (MIT)" in text
    assert not (tmp_path / "out" / "model.onnx").exists() and "onnxruntime" not in text


def test_many_classes_get_the_worst_pairs(tmp_path):
    names = [f"class{index}" for index in range(20)]
    confusion = np.diag([5] * 20)
    confusion[3, 7] = 4
    one = delivery(cell, names, figures=Figures(1, 2, accuracy=50.0, confusion=confusion))
    save(one, tmp_path / "out", onnx=False)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| class3 taken for class7 | 4 |" in text and "class4 taken" not in text


def test_the_graph_says_what_it_takes(made):
    for one, saved in made[1].values():
        model = onnx.load(saved.folder / "model.onnx")
        [images], [logits] = model.graph.input, model.graph.output
        shapes = [
            [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in (images, logits)
        ]
        side = one.resolution
        assert shapes == [["batch", 3, side, side], ["batch", len(NAMES)]]
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert json.loads(told["classes"]) == NAMES
        assert json.loads(told["preprocessing"])["resolution"] == side
        assert told["accuracy"] == "81.23" and told["license"] == "Apache-2.0"
        kinds = {node.op_type for node in model.graph.node}
        # Paddings and batch norms are in the convolutions.
        assert not kinds & {"Pad", "BatchNormalization", "Shape", "Identity"}


def networks_of_all_kinds():
    lite = {"stem": 8, "stages": [[[8, 8, 3, 1, "relu6", 0]], [[16, 32, 5, 2, "relu6", 0]]]}
    v3 = {
        "stem": 8,
        "stages": [[[8, 16, 7, 2, "relu", 8]], [[8, 24, 3, 1, "h_swish", 8]]],
        "head": 24,
        "hidden": 32,
        "activation": "h_swish",
        "same": False,
        "eps": 1e-5,
        "dropout": 0.2,
    }
    edges = {"0->1": "nor_conv_3x3", "1->3": "avg_pool_3x3", "0->3": "skip_connect"}
    return {
        "lite": InvertedResidualNetwork(3, **lite),
        "lite-33": InvertedResidualNetwork(3, **lite),
        "mobilenetv3": InvertedResidualNetwork(3, **v3),
        "cell-15": CellNetwork(edges, 3, 4, 1),
        "cell-nothing": CellNetwork({"0->1": "nor_conv_3x3"}, 3, 4, 1),
        "darts": DartsNetwork(NORMAL, REDUCTION, 3, 2, 3),
        "darts-17": DartsNetwork(NORMAL, REDUCTION, 3, 2, 3, auxiliary=True),
    }


@pytest.mark.parametrize("name", networks_of_all_kinds())
def test_every_kind_of_network_becomes_a_graph(name, tmp_path):
    network = randomised(networks_of_all_kinds()[name])
    side = int(name.rpartition("-")[2]) if name[-1].isdigit() and "-" in name else 32
    whole = Delivered(network, MEAN, DEVIATION).eval()
    onnx_model.write(whole, tmp_path / "a.onnx", side, {"key": "text"})
    for batch in (1, 2, 5):
        images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))
        [found] = session(tmp_path / "a.onnx").run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = whole(images).numpy()
        assert np.abs(found - wanted).max() <= 1e-4 and wanted.std() > 0.01
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("name", networks_of_all_kinds())
def test_every_kind_of_network_becomes_a_file(name):
    network = randomised(networks_of_all_kinds()[name])
    one = delivery(network=network, classes=["a", "b", "c"])
    module = {"__file__": "model.py", "__name__": "model"}
    exec(compile(code(one), "model.py", "exec"), module)
    again = module["build"]()
    again.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), network(images))


def test_networks_files_need_torch_alone():
    taken = {"Delivered", "build", "load", "read_tensors", "preprocess", "to_rgb", "main"}
    taken |= {"CONFIG", "CLASSES", "MEAN", "DEVIATION", "RESOLUTION", "FILL", "LONGEST", "Network"}
    files = sorted(Path(networks.__path__[0]).glob("[a-z]*.py"))
    assert len(files) >= 3
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in names:
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            )
            tops = {module.partition(".")[0] for module in modules}
            assert tops <= {"torch"} | sys.stdlib_module_names, path
        defined = {getattr(node, "name", "") for node in tree.body}
        assert not defined & taken, path


def test_hostile_names_are_data_in_the_code():
    hostile = ['"""', "'''", "\\", "{0}", "\n__import__('os')", "\u202e", "\udcff"]
    module = {"__file__": "model.py", "__name__": "model"}
    text = code(delivery(cell, hostile, report='"""\nraise SystemExit'))
    text.encode()
    exec(compile(text, "model.py", "exec"), module)
    assert module["CLASSES"] == hostile


def test_the_script_prints_labels(made):
    pictures, found = made
    _, saved = found["cell"]
    done = subprocess.run(
        [sys.executable, "-I", saved.folder / "model.py", pictures / "00.png"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    [expected] = predict(saved.folder, pictures / "00.png")
    assert done.stdout.startswith(f"{pictures / '00.png'}: ")
    assert f"{100 * expected.probability:.1f} %" in done.stdout


def test_damaged_weights_are_refused_by_the_code_alone(tmp_path):
    save(delivery(cell), tmp_path / "out", onnx=False)
    path = tmp_path / "out" / "model.safetensors"
    content = path.read_bytes()
    found = read_tensors(path)
    assert found.keys() == load_file(path).keys()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    name = next(iter(header))
    for change in ({"data_offsets": [0, 2**40]}, {"shape": [10**9, 10**9]}, {"shape": [1, 2, 3]}):
        damaged = json.dumps(header | {name: header[name] | change}).encode()
        path.write_bytes(len(damaged).to_bytes(8, "little") + damaged + content[-1000:])
        with pytest.raises(ValueError, match="does not lie within"):
            read_tensors(path)
    for content_now in (b"", b"12345678", b"\xff" * 64, content[:50]):
        path.write_bytes(content_now)
        with pytest.raises(ValueError, match="no safetensors file"):
            read_tensors(path)


def test_an_untrained_network_leaves_as_code(tmp_path):
    one = delivery(cell, trained=False, figures=Figures(1, 2))
    saved = save(one, tmp_path / "out", onnx=True, int8=True)
    assert "model.safetensors" not in saved.files and "model.onnx" not in saved.files
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "untrained" in text and "What it reaches" not in text
    with pytest.raises(ArtifactError, match="of no trained network"):
        predict(tmp_path / "out", [])


def test_eight_bits(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    one = delivery(cell, calibration=images[:16])
    whole = Delivered(one.network, MEAN, DEVIATION).eval()
    with torch.no_grad():
        labels = whole(images.float() / 255).argmax(1)
    batches = [(part, labels[i * 20 : i * 20 + 20]) for i, part in enumerate(images.split(20))]
    one = delivery(cell, calibration=images[:16], test=iter(batches))
    saved = save(one, tmp_path / "out", onnx=False, int8=True)
    assert saved.int8.images == 40 and saved.int8.float_accuracy == 100
    assert 70 <= saved.int8.accuracy <= 100 and f"{-saved.int8.drop:+.1f} points" in str(saved)
    model = onnx.load(tmp_path / "out" / "model.int8.onnx")
    assert "DequantizeLinear" in {node.op_type for node in model.graph.node}
    assert "classes" in {entry.key for entry in model.metadata_props}
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "`model.int8.onnx`" in text and "In 8 bits it is right on" in text
    described = json.loads((tmp_path / "out" / "architecture.json").read_text(encoding="utf-8"))
    assert described["int8"]["float_accuracy"] == 100


def test_eight_bits_need_images_and_the_runtime(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="need training images"):
        save(delivery(cell), tmp_path / "out", int8=True)
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"metad2a\[int8\]"):
        save(delivery(cell), tmp_path / "out", int8=True)
    assert not list(tmp_path.iterdir())
    saved = save(delivery(cell), tmp_path / "out")
    assert "model.onnx" in saved.files and saved.notes == ()
    assert "not timed" in (saved.folder / "README.md").read_text(encoding="utf-8")


ODD = """
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.config, self.classifier = {"classes": classes}, nn.Linear(3, classes)

    def forward(self, x):
        return self.classifier(torch.erf(x).mean((2, 3)))
"""


def test_a_training_is_not_lost_for_an_unknown_operation(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text(ODD, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    odd = importlib.import_module("odd").Odd(len(NAMES))
    saved = save(delivery(network=odd), tmp_path / "out")
    assert "model.safetensors" in saved.files and "model.onnx" not in saved.files
    assert any("'erf'" in note and "no ONNX form" in note for note in saved.notes)
    assert "model.onnx" not in (saved.folder / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(runtime, "TOLERANCE", -1.0)
    saved = save(delivery(cell), tmp_path / "out")
    assert "model.onnx" not in saved.files and "differ from the network's" in saved.notes[0]


def test_a_folder_of_ours_is_replaced_and_another_left_alone(tmp_path):
    save(delivery(cell), tmp_path / "out")
    check_free(tmp_path / "out")
    saved = save(delivery(cell, ["a", "b"]), tmp_path / "out", onnx=False)
    assert "model.onnx" not in saved.files
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"0": "a", "1": "b"}
    (tmp_path / "out" / "__pycache__").mkdir()  # As importing model.py leaves it.
    save(delivery(cell, ["a", "b"]), tmp_path / "out", onnx=False)
    (tmp_path / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    for act in (check_free, lambda place: save(delivery(cell), place)):
        with pytest.raises(InputError, match=r"holds other files.*notes\.txt"):
            act(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "labels.json").read_text()) == {"0": "a", "1": "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_names_must_be_as_many_as_outputs():
    one = delivery(cell)
    with pytest.raises(InputError, match="5 outputs, but 1 names"):
        delivery(cell, network=one.network, classes=["a"])
