"""Model folders: what loads, what is refused (A1, A2, A4, A10), and how a folder is verified."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import metad2a.model.metad2a
from metad2a.errors import ArtifactError
from metad2a.model.artifact import FILES, KNOWN, load_artifact, save_artifact
from metad2a.model.golden import differences, synthetic
from metad2a.model.hub import resolve
from metad2a.model.metad2a import MetaD2A, packaged
from metad2a.model.predictor import PredictorConfig
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged model that a test may change."""
    return Path(shutil.copytree(resolve(None), tmp_path / "model"))


def test_the_package_brings_a_model_that_is_loaded_once():
    model = packaged()
    assert packaged() is model
    assert model.space is SPACE
    assert model.protocol == "standalone-v1"
    assert model.card.strip()
    assert not any(
        part.training for part in [*model.predictor.modules(), *model.generator.modules()]
    )


def test_a10_it_gives_its_own_golden_answers():
    assert set(packaged().golden) == {"stripes", "dots"}
    assert differences(packaged()) == []


def test_a10_other_answers_than_the_golden_ones_are_named(folder):
    changed = MetaD2A.from_pretrained(folder)
    changed.predictor.noise.mul_(3)
    for side in changed.predictor.sides:
        side.level.bias.data += 1
    problems = "\n".join(differences(changed))
    for part in ("stripes: mean differs", "dots: mean differs", "stripes: std differs"):
        assert part in problems
    with pytest.raises(ArtifactError, match="known: stripes, dots"):
        synthetic("checks")


def tensors_of(prediction: object) -> np.ndarray:
    return np.stack([getattr(prediction, name) for name in ("mean", "std", "low", "high")])


def test_a_saved_model_is_the_same_model(tmp_path):
    model, rng = packaged(), np.random.default_rng(1)
    cells = [SPACE.format(SPACE.sample(rng)) for _ in range(30)]
    model.save_pretrained(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} - {KNOWN} == set(FILES)
    again = MetaD2A.from_pretrained(tmp_path / "copy")
    data = synthetic("dots")
    assert np.array_equal(
        tensors_of(again.predict(data, cells)),
        tensors_of(MetaD2A.from_pretrained().predict(data, cells)),
    )
    assert again.generate(data, 20, 3) == model.generate(data, 20, 3)
    assert (again.card, again.golden, again.protocol) == (model.card, model.golden, model.protocol)
    again.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


Change = Callable[[dict], object]
REFUSED: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda c: c.update(flavour=1), "unknown key 'flavour'"),
    "missing key": (lambda c: c.pop("protocol"), "missing key 'protocol'"),
    "unknown size": (lambda c: c["predictor"].update(depth=3), "unknown key 'predictor.depth'"),
    "missing size": (lambda c: c["predictor"].pop("factors"), "missing key 'predictor.factors'"),
    "no sizes": (lambda c: c.pop("predictor"), "missing key 'predictor'"),
    "sizes a list": (lambda c: c.update(predictor=[5]), "'predictor' is not an object"),
    "space a number": (lambda c: c.update(space=201), "'space' is not a string"),
    "protocol null": (lambda c: c.update(protocol=None), "'protocol' is not a string"),
    "unknown space": (lambda c: c.update(space="chains"), "space 'chains' is unknown"),
    "a word": (lambda c: c["predictor"].update(members="five"), "'predictor.members' is 'five'"),
    "a fraction": (lambda c: c["predictor"].update(members=5.0), "'predictor.members' is '5.0'"),
    "true": (lambda c: c["predictor"].update(members=True), "'predictor.members' is 'True'"),
    "zero": (lambda c: c["predictor"].update(embedding=0), "'predictor.embedding' is '0'"),
    "negative": (lambda c: c["predictor"].update(factors=-4), "'predictor.factors' is '-4'"),
    "no scores": (lambda c: c["predictor"].update(scores=[]), "'predictor.scores' is"),
    "scores of numbers": (lambda c: c["predictor"].update(scores=[1]), "'predictor.scores' is"),
    "heads do not divide": (lambda c: c["predictor"].update(set_width=30), "'predictor.set_width'"),
    "types of another space": (
        lambda c: c["predictor"].update(node_features=9),
        "'predictor.node_features'",
    ),
}
SIZES = [name for name in PredictorConfig.__dataclass_fields__ if name != "scores"]


def edit(folder: Path, change: Change) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("name", REFUSED)
def test_a4_a_config_that_does_not_fit_is_refused(folder, name):
    change, message = REFUSED[name]
    edit(folder, change)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    assert message in str(caught.value)
    assert "model=None for the one inside the package" in str(caught.value)


@pytest.mark.parametrize("size", [4096, 10**9, 10**30], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_a4_huge_sizes_are_refused_before_a_network_is_made(folder, name, size, monkeypatch):
    def on_meta_only(space, config):
        assert torch.get_default_device().type == "meta", "memory would be taken"
        return parts(space, config)

    parts = metad2a.model.metad2a._parts
    monkeypatch.setattr(metad2a.model.metad2a, "_parts", on_meta_only)
    edit(folder, lambda config: config["predictor"].update({name: size}))
    with pytest.raises(ArtifactError):
        MetaD2A.from_pretrained(folder)


def test_a4_all_problems_of_a_config_come_at_once(folder):
    def change(config: dict) -> None:
        config["flavour"] = 1
        del config["protocol"]
        config["predictor"]["members"] = 10**9

    edit(folder, change)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    for part in ("'flavour'", "'protocol'", "'predictor.members' is '1000000000'"):
        assert part in str(caught.value)


def test_a1_tensors_missing_extra_renamed_or_of_another_shape_or_dtype_are_all_listed(folder):
    artifact = load_artifact(folder)
    every = dict(artifact.tensors)
    noise = artifact.tensors.pop("predictor.noise")
    artifact.tensors["predictor.nose"] = noise
    artifact.tensors["generator.embed.weight"] = torch.zeros(3, 3)
    artifact.tensors["predictor.cost_scale"] = torch.ones(2, dtype=torch.float64)
    save_artifact(folder, artifact)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    lines = [line[2:] for line in str(caught.value).splitlines() if line.startswith("- ")]
    shape = tuple(every["generator.embed.weight"].shape)
    assert lines == [
        f"generator.embed.weight has shape (3, 3), expected {shape}",
        "predictor.cost_scale is torch.float64, expected torch.float32",
        "predictor.noise is missing",
        "predictor.nose is unknown",
    ]

    artifact.tensors.clear()
    artifact.tensors.update({f"module.{name}": tensor for name, tensor in every.items()})
    save_artifact(folder, artifact)
    with pytest.raises(ArtifactError) as caught:
        MetaD2A.from_pretrained(folder)
    for name in every:
        assert f"\n- {name} is missing" in str(caught.value)
        assert f"\n- module.{name} is unknown" in str(caught.value)


def test_a2_weights_that_are_not_finite_are_refused(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["predictor.noise"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit(folder, lambda config: config.update(weights_sha256=digest))
    with pytest.raises(ArtifactError, match=r"predictor\.noise holds values that are not finite"):
        MetaD2A.from_pretrained(folder)


HUGE = """
import json, resource, sys
from pathlib import Path
from metad2a.errors import ArtifactError
from metad2a.model.metad2a import MetaD2A
folder = Path(sys.argv[1])
MetaD2A.from_pretrained(folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
whole, refused = json.loads((folder / "config.json").read_text()), 0
asked = [(name, 10**9) for name in whole["predictor"]] + [("graph_width", 4096)]
for name, size in asked:
    changed = whole | {"predictor": whole["predictor"] | {name: size}}
    (folder / "config.json").write_text(json.dumps(changed))
    try:
        MetaD2A.from_pretrained(folder)
    except ArtifactError:
        refused += 1
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"refused": refused, "asked": len(asked), "KiB": after - before}))
"""


@pytest.mark.slow
def test_a4_a_config_that_asks_for_a_billion_units_takes_no_memory(folder):
    done = subprocess.run(
        [sys.executable, "-c", HUGE, str(folder)],
        text=True,
        timeout=120,
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["refused"] == found["asked"] > 5
    assert found["KiB"] < 30 * 1024, "4096 units a layer alone would be hundreds of MiB"
