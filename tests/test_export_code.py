"""The code of ``model.py``: the same network of every space, with torch alone."""

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
from metad2a.export import code, untrained
from metad2a.spaces import SPACES, WeightSharing
from metad2a.spaces.counting import count

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
NAMES = tuple(f"class {index}" for index in range(1000))
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
    **{
        space.name: (space, space.format(space.pool(1, np.random.default_rng(0))[0]), 7, {}, None)
        for space in SPACES
        if not isinstance(space, WeightSharing)
    },
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


def delivery(space, architecture, classes, macro=None, names=NAMES):
    return untrained(space, space.parse(architecture), names[:classes], **(macro or {}))


def randomised(network, seed=0):
    """Give a network weights and statistics that no two parts share, of the usual scale."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.normal_(generator=generator)
            value.mul_((2 / value[0].numel()) ** 0.5 if value.ndim == 4 else 0.3)
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    return network.eval()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What the code of every case computes in a process that cannot import this package."""
    root, networks = tmp_path_factory.mktemp("export"), {}
    for name, (space, architecture, classes, macro, size) in CASES.items():
        made = delivery(space, architecture, classes, macro)
        network = networks[name] = randomised(made.network)
        folder = root / name
        folder.mkdir()
        (folder / "model.py").write_text(code(made), encoding="utf-8")
        save_file(network.state_dict(), folder / "weights.safetensors")
        sides = size or (made.resolution, made.resolution)
        images = torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(1))
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


def test_the_code_imports_torch_and_what_python_has():
    for name, (space, architecture, classes, macro, _) in CASES.items():
        nodes = list(ast.walk(ast.parse(code(delivery(space, architecture, classes, macro)))))
        modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        modules |= {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
        tops = {module.partition(".")[0] for module in modules}
        assert tops - set(sys.stdlib_module_names) <= {"torch", "PIL"}, name


def test_the_docstring_says_what_it_is():
    made = delivery(NAS, CELL, 10)
    told = ast.get_docstring(ast.parse(code(made)))
    cost = NAS.cost(NAS.parse(CELL), 10)
    for words in (CELL, f"{cost.params:,}", f"{cost.macs:,}", "untrained"):
        assert words in told
    assert "preprocess" not in told


def test_hostile_names_stay_names():
    words = '"""\nimport os\n\\N{BELL}\x00\u2028 """ + x \\'
    tree = ast.parse(code(delivery(NAS, CELL, 2, names=(words, "b"))))
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert words in constants
    assert not any(
        isinstance(node, ast.Import) and node.names[0].name == "os" for node in ast.walk(tree)
    )


@pytest.mark.parametrize(
    ("classes", "macro", "words"),
    [
        (1, {}, "1 classes cannot be exported"),
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
        delivery(NAS, CELL, classes, macro)


def test_costs_of_other_sizes_are_counted():
    made = delivery(NAS, CELL, 10, {"channels": 16, "cells": 4})
    table = NAS.cost(NAS.parse(CELL), 10)
    assert made.figures.params == sum(p.numel() for p in made.network.parameters()) < table.params
    # What the cells cost is proportional to their number; the rest is what a skip leaves.
    fixed = NAS.smallest(10)
    assert made.figures.macs - fixed.macs == (table.macs - fixed.macs) * 4 // 5


@pytest.mark.parametrize("side", [32, 17])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counting_finds_what_the_space_says_and_leaves_the_network_as_it_was(side, device):
    architecture = DARTS.parse(GENOTYPE)
    with torch.device(device):
        network = DARTS.build(architecture, 7)
    network.train()
    assert count(network, side) == DARTS.cost(architecture, 7, side)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_an_untrained_network_has_the_same_weights_each_time():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        found.append(delivery(NAS, CELL, 3).network.state_dict())
        assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
