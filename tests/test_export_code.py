"""The code of ``model.py``: same network, torch alone, one architecture's operations."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metad2a.errors import InputError
from metad2a.export import Design, code
from metad2a.export import design as design_file
from metad2a.spaces import SPACES
from metad2a.suggestion import Candidate, Measured
from search.delivery import StandardisedNetwork

NAS, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
CUT = "|none~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
SKIP = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
NOTHING = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
GENOTYPE = DARTS.format(DARTS.sample(np.random.default_rng(3)))
WIDE = (
    "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1), ('max_pool_3x3', 0), "
    "('dil_conv_5x5', 1), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_5x5', 0), "
    "('dil_conv_3x3', 1)], normal_concat=range(2, 6), reduce=[('skip_connect', 0), "
    "('max_pool_3x3', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1), ('avg_pool_3x3', 0), "
    "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], reduce_concat=range(2, 6))"
)
SKIPS = DARTS.format(
    DARTS.parse(
        WIDE.replace("dil_conv_3x3", "skip_connect")
        .replace("dil_conv_5x5", "skip_connect")
        .replace("sep_conv_3x3", "max_pool_3x3")
        .replace("sep_conv_5x5", "avg_pool_3x3")
    )
)
# architecture, classes, sizes, height and width of the images
CASES = {
    "nasbench201": (NAS, CELL, 10, {"channels": 4, "cells": 2}, (32, 32)),
    "own-sizes": (NAS, CELL, 2, {}, (9, 9)),
    "odd-image": (NAS, CELL, 2, {"channels": 3, "cells": 1}, (19, 7)),
    "cut-cell": (NAS, CUT, 1000, {"channels": 5, "cells": 1}, (8, 8)),
    "skip-only": (NAS, SKIP, 3, {"channels": 4, "cells": 3}, (28, 28)),
    "nothing": (NAS, NOTHING, 3, {"channels": 4, "cells": 1}, (8, 8)),
    "darts": (DARTS, GENOTYPE, 10, {"channels": 4, "cells": 5}, (32, 32)),
    "darts-odd": (DARTS, WIDE, 2, {"channels": 3, "cells": 4}, (17, 23)),
    "darts-1-cell": (DARTS, WIDE, 1000, {"channels": 2, "cells": 1}, (8, 8)),
    "darts-skips": (DARTS, SKIPS, 5, {"channels": 2, "cells": 3}, (1, 1)),
    "trained": (NAS, CELL, 4, {"channels": 4, "cells": 1}, (15, 15)),
    "trained-darts": (DARTS, GENOTYPE, 4, {"channels": 4, "cells": 3}, (12, 12)),
}
SCRIPT = """
import importlib.util, json, pathlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("metad2a", "search", "database"):
            raise ImportError(name)

sys.meta_path.insert(0, Block())
import torch
from safetensors.torch import load_file

torch.set_num_threads(1)
found = {}
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.build()
    names = list(network.state_dict())
    network.load_state_dict(load_file(folder / "weights.safetensors"), strict=True)
    known = load_file(folder / "known.safetensors")
    with torch.no_grad():
        difference = (network.eval()(known["images"]) - known["logits"]).abs().max()
    params = sum(p.numel() for p in network.parameters())
    found[folder.name] = [float(difference), float(known["logits"].std()), params, names]
print(json.dumps(found))
"""


def randomised(network, seed=0):
    """Give a network weights and statistics that no two parts share."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.normal_(generator=generator).mul_(0.3)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return network.eval()


def candidate(space, architecture, classes=10, network=None, **given):
    cost = space.cost(space.parse(architecture), classes)
    return Candidate(
        **{
            "rank": 1,
            "space": space.name,
            "architecture": architecture,
            "accuracy": 91.25,
            "interval": (80.0, 97.5),
            "params": cost.params,
            "macs": cost.macs,
            "classes": classes,
            "reason": "predicted best",
            "network": network,
            **given,
        }
    )


def trained(space, architecture, classes, side=24, **macro):
    """A candidate with a network as the search backend hands it out."""
    core = randomised(space.build(space.parse(architecture), classes, **macro))
    mean, deviation = torch.tensor([0.1, 0.5, 0.7]), torch.tensor([0.3, 1 / 3, 1.0])
    network = StandardisedNetwork(core, mean.view(1, 3, 1, 1), deviation.view(1, 3, 1, 1), side)
    return candidate(space, architecture, classes, network.eval())


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the code of every case computes in a process that cannot import this package."""
    root, networks = tmp_path_factory.mktemp("export"), {}
    for name, (space, architecture, classes, macro, size) in CASES.items():
        if name.startswith("trained"):
            design = Design.of(trained(space, architecture, classes, **macro))
        else:
            design = Design.of(candidate(space, architecture, classes), **macro)
        network = networks[name] = randomised(design.build())
        folder = root / name
        folder.mkdir()
        (folder / "model.py").write_text(code(design), encoding="utf-8")
        save_file(network.state_dict(), folder / "weights.safetensors")
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
        images[1] = images[1, :1]  # a gray one
        with torch.no_grad():
            save_file({"images": images, "logits": network(images)}, folder / "known.safetensors")
    (elsewhere := tmp_path_factory.mktemp("elsewhere")).joinpath("run.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "run.py", str(root)],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return networks, json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_the_code_alone_builds_the_same_network(answers, name):
    networks, found = answers
    difference, spread, params, names = found[name]
    assert difference <= 1e-6 and spread > 0.05
    assert params == sum(p.numel() for p in networks[name].parameters())
    assert sorted(names) == sorted(networks[name].state_dict())


def test_the_comparison_sees_another_cell():
    """Were all cells' outputs alike, the test above could not fail."""
    images, logits = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), []
    for cell in (CELL, CELL.replace("skip_connect~0", "avg_pool_3x3~0")):
        network = randomised(NAS.build(NAS.parse(cell), 10, channels=4, cells=2))
        logits.append(network(images).detach())
    assert float((logits[0] - logits[1]).abs().max()) > 1e-3


def test_the_code_is_clean_and_imports_torch_alone(tmp_path):
    for name, (space, architecture, classes, macro, _) in CASES.items():
        text = code(trained(space, architecture, classes, **macro))
        nodes = list(ast.walk(ast.parse(text)))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        modules |= {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
        assert modules <= {"torch", "torch.nn"}, name
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(text, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--line-length",
        "100",
        "--select",
        "E,F,W,I,N,UP,B,C4,SIM",
        "--ignore",
        "N812",
        str(tmp_path),
    ]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_the_operations_that_are_used_are_written():
    text = code(candidate(NAS, SKIP))
    assert "AvgPool2d(3" not in text and "self.edges[" not in text
    assert "leads nowhere" in code(candidate(NAS, CUT))
    text = code(candidate(DARTS, SKIPS))
    assert "Separable" not in text and "Dilated" not in text and "MaxPool2d" in text


def test_the_docstring_says_what_it_is():
    told = ast.get_docstring(ast.parse(code(candidate(NAS, CELL))))
    cost = NAS.cost(NAS.parse(CELL), 10)
    for words in (
        CELL,
        "channels 16, cells 5",
        f"{cost.params:,}",
        f"{cost.macs:,}",
        "91.2 %",
        "80.0 to 97.5",
        "predicted best",
    ):
        assert words in told
    assert "load_file" not in told
    told = ast.get_docstring(ast.parse(code(trained(NAS, CELL, 10, channels=4, cells=1))))
    assert "load_file" in told and "0 to 1" in told and "channels 4, cells 1" in told


def test_hostile_words_stay_words():
    words = '"""\nimport os\n\\N{BELL}\x00\u2028 """ + x \\'
    text = code(candidate(NAS, CELL, reason=words, measured=Measured(90.0, words, 1.0)))
    tree = ast.parse(text)
    assert "import os" in ast.get_docstring(tree)
    assert not any(
        isinstance(node, ast.Import) and node.names[0].name == "os" for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("classes", "macro", "words"),
    [
        (1, {}, "classes=1 "),
        (10, {"channels": 0}, "channels=0"),
        (10, {"cells": 201}, "1 to 200"),
        (10, {"channels": 10**9}, "channels=1000000000"),
        (10, {"width": 3}, "no size 'width'"),
        (10, {"channels": 4096, "cells": 9}, "at most"),
        (10, {"cells": 2.0}, "cells=2.0"),
        (10, {"cells": True}, "cells=True"),
    ],
)
def test_sizes_are_checked_before_anything_is_built(classes, macro, words):
    with pytest.raises(InputError, match=words):
        Design.new(NAS, NAS.parse(CELL), classes, **macro)


def test_costs_of_other_sizes_are_counted():
    design = Design.of(candidate(NAS, CELL), channels=16, cells=4)
    table = NAS.cost(NAS.parse(CELL), 10)
    network = design.build()
    assert design.cost.params == sum(p.numel() for p in network.parameters()) < table.params
    # What the cells cost is proportional to their number; the rest is what a skip leaves.
    fixed = NAS.smallest(10)
    assert design.cost.macs - fixed.macs == (table.macs - fixed.macs) * 4 // 5
    architecture = DARTS.parse(GENOTYPE)
    for side in (32, 17):
        counted = design_file.count_cost(DARTS, architecture, 7, DARTS.counted_macro, side)
        assert counted == DARTS.cost(architecture, 7, side)


@pytest.mark.parametrize(
    "network",
    [
        torch.nn.Linear(2, 2),
        NAS.build(NAS.parse(CUT), 10, channels=4, cells=1),
        NAS.build(NAS.parse(CELL), 9, channels=4, cells=1),
        DARTS.build(DARTS.parse(GENOTYPE), 10, channels=2, cells=1),
    ],
    ids=["linear", "another cell", "other classes", "another space"],
)
def test_a_network_of_another_make_is_refused(network):
    with pytest.raises(InputError, match="trained network is"):
        code(candidate(NAS, CELL, network=network))
    assert code(candidate(NAS, CELL, network=None))
