"""The space of once-for-all's MobileNetV3: its table's costs, its strings, its three starts."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from metad2a.errors import ArtifactError, InputError
from metad2a.spaces import SPACES, mobilenetv3, pretrained
from metad2a.spaces.efficientnet_lite import parent

SPACE = SPACES.get("mobilenetv3")
LARGEST = f"r224-d44444-ks{'7' * 20}-e{'6' * 20}"
SMALLEST = f"r32-d22222-ks{'3300' * 5}-e{'3300' * 5}"
# Kernels, expansions and depths, with the parameters and multiply-adds that once-for-all publishes
# of these networks at 224 px and for 1,000 classes.
PUBLISHED = (
    ("33353355533335575353", "33433334334333333343", "22222", 3_423_464, 122_972_112),
    ("53733555537355355533", "33463334344444334433", "22233", 4_195_536, 169_161_408),
    ("57553553553535355573", "34444344444443333334", "24232", 3_701_952, 194_991_664),
    ("33753355575357755553", "34333344363463644443", "23332", 4_352_792, 216_355_872),
    ("75355333555775733535", "63346443366364644443", "23323", 4_487_048, 239_727_392),
    ("35737373555755355533", "64446434634633343466", "33432", 3_972_304, 261_110_032),
    ("75357535335755755375", "43334644646644663644", "34333", 5_130_224, 285_119_184),
    ("73757555373555535733", "44636344663446446464", "24344", 5_981_088, 310_117_984),
    ("75375557553555577573", "33333664664366636666", "33444", 7_047_304, 345_203_360),
    ("75577377755357735575", "66443643444366446666", "34444", 6_920_304, 386_052_512),
    ("73757577775555575577", "64446346664364466464", "44344", 6_237_648, 408_529_184),
    ("77777777775757777577", "46664664646466646666", "44444", 7_318_520, 506_480_288),
)


def images(side, batch=2, seed=0):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def no_file(monkeypatch):
    monkeypatch.delenv("METAD2A_ONCE_FOR_ALL", raising=False)


# -- strings and costs -----------------------------------------------------------------------


@pytest.mark.parametrize(("kernels", "expansions", "depths", "params", "macs"), PUBLISHED)
def test_costs_are_those_of_the_published_table(kernels, expansions, depths, params, macs):
    architecture = SPACE.parse(f"r224-d{depths}-ks{kernels}-e{expansions}")
    assert SPACE.canonical(architecture) == architecture
    cost = SPACE.cost(architecture, 1000)
    assert (cost.params, cost.macs) == (params, macs)


def test_digits_of_blocks_that_are_not_there_are_ignored():
    text = "r224-d24243-ks35357353573535735357-e34634346343463434634"
    architecture = SPACE.parse(text)
    written = SPACE.format(architecture)
    assert written == "r224-d24243-ks35007353570035735350-e34004346340063434630"
    assert SPACE.parse(written) == architecture
    assert SPACE.parse(re.sub("(?<=ks)(..)..", r"\g<1>99", text)) == architecture
    on = SPACE.active(architecture)
    assert sum(on) == 1 + 5 + 2 * (2 + 4 + 2 + 4 + 3)
    assert not any(choice for choice, here in zip(architecture, on, strict=True) if not here)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LARGEST.replace("r224", "r225"), "'r225'.*resolution is '225'.*192 or 224"),
        (LARGEST.replace("d44444", "d44544"), "'d44544'.*blocks 3 is '5'.*2, 3 or 4"),
        (LARGEST.replace("ks777", "ks774"), "kernel 1.3 is '4'.*3, 5 or 7"),
        (LARGEST.replace("e666", "e656"), "expansion 1.2 is '5'.*3, 4 or 6"),
        (LARGEST.replace("d4", "d"), "where 'd4444' stands, 'd' and 5 digits must be"),
        (LARGEST[:-1], "where 'e6666666666666666666' stands, 'e' and 20 digits must be"),
        (LARGEST.partition("-e")[0], "where '' stands, 'e' and 20 digits"),
        (LARGEST + "-s6", "where 's6' stands, the end must be"),
    ],
)
def test_a_wrong_string_is_told_which_part_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        SPACE.parse(text)


def test_the_smallest_is_a_member_and_none_is_smaller():
    smallest = SPACE.parse(SMALLEST)
    assert SPACE.cost(smallest, 10) == SPACE.smallest(10)
    rng = np.random.default_rng(0)
    near = np.array([SPACE.mutate(smallest, rng) for _ in range(100)])
    least = SPACE.smallest(10)
    assert (SPACE.costs(near, 10) >= (least.params, least.macs)).all()


def test_a_graph_knows_squeeze_and_excitation():
    graph = SPACE.graph(SPACE.parse(SMALLEST))
    squeeze = graph.x[:, SPACE.node_features.index("squeeze")].tolist()
    # Stem, first block, two blocks in each of five stages, head, output.
    assert squeeze == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0]


# -- a start from blocks of EfficientNet-Lite0 -----------------------------------------------


def test_blocks_are_transplanted_where_channels_agree():
    network = SPACE.build(SPACE.parse(LARGEST), 2, pretrained=True)
    source = parent(2)
    first = network.stages[1][1]
    assert torch.equal(first.expand.conv.weight, source.stages[1][1].expand.conv.weight)
    kernel = first.depthwise.conv.weight
    assert torch.equal(kernel[..., 2:5, 2:5], source.stages[1][1].depthwise.conv.weight)
    stems = set(map(tuple, source.stem.conv.weight.flatten(1).tolist()))
    kept = set(map(tuple, network.stem.conv.weight.flatten(1).tolist()))
    assert len(kept) == 16
    assert kept < stems
    assert kernel.count_nonzero() == kernel[..., 2:5, 2:5].count_nonzero()
    # The last stage has 160 of 192 channels, and 960 of 1,152 between them; what its hard swish
    # gets is larger, so the weights behind it are smaller.
    wide = source.stages[5][1].depthwise.conv.weight[:, 0].flatten(1) / pretrained.SHARPNESS
    kept = network.stages[5][1].depthwise.conv.weight[:, 0, 1:6, 1:6].flatten(1).tolist()
    assert len(kept) == 960
    assert set(map(tuple, kept)) < set(map(tuple, wide.tolist()))


def test_a_hard_swish_begins_nearly_as_the_relu_before_it():
    block = SPACE.build(SPACE.parse(LARGEST), 2, pretrained=True).stages[3][1].eval()
    source = parent(2).stages[3][1].eval()
    x = images(8)[:, :1].expand(2, 80, 8, 8)
    with torch.inference_mode():
        sharp = block.depthwise(block.expand(x)) / pretrained.SHARPNESS
        expected = source.depthwise(source.expand(x))
        plain = nn.functional.hardswish(source.expand.norm(source.expand.conv(x)))
        plain = nn.functional.hardswish(source.depthwise.norm(source.depthwise.conv(plain)))
    assert (sharp - expected).square().mean() < 0.3 * (plain - expected).square().mean()


def test_squeeze_and_excitation_begins_as_the_identity_and_learns():
    block = SPACE.build(SPACE.parse(LARGEST), 2, pretrained=True).stages[2][1].eval()
    x = images(8)[:, :1].expand(2, 40, 8, 8)
    y = block.depthwise(block.expand(x))
    torch.testing.assert_close(2 * block.squeeze(y), y)
    block(x).square().sum().backward()
    assert block.squeeze.expand.weight.grad.abs().max() > 0


def test_blocks_that_the_source_lacks_begin_as_the_identity():
    network = SPACE.build(SPACE.parse(LARGEST), 2, pretrained=True).eval()
    shallow = SPACE.build(
        SPACE.parse(LARGEST.replace("d44444", "d22334")), 2, pretrained=True
    ).eval()
    x = images(64)
    with torch.inference_mode():
        torch.testing.assert_close(network.features(x), shallow.features(x))
        assert not torch.equal(x, network.begin(x, 1))


def test_every_start_is_the_same_but_for_the_classifier():
    architecture = SPACE.parse(SMALLEST)
    states = [
        SPACE.build(architecture, 3, pretrained=True).state_dict(),
        SPACE.build(architecture, 3, pretrained=True).state_dict(),
    ]
    mobilenetv3._weights.cache_clear()
    before = torch.random.get_rng_state()
    mobilenetv3._weights(None)
    assert torch.equal(before, torch.random.get_rng_state())
    states.append(SPACE.build(architecture, 3, pretrained=True).state_dict())
    for other in states[1:]:
        different = {name for name in other if not torch.equal(other[name], states[0][name])}
        assert different <= {"classifier.weight"}


def test_narrow_blocks_take_their_own_channels():
    wide = SPACE.build(SPACE.parse(LARGEST), 2, pretrained=True).stages[4][0]
    text = LARGEST.replace("ks7777777777777", "ks7777777777775").replace(
        "e6666666666666", "e6666666666664"
    )
    narrow = SPACE.build(SPACE.parse(text), 2, pretrained=True).stages[4][0]
    rows = {tuple(row) for row in wide.squeeze.reduce.weight[:, :, 0, 0].T[:, :40].tolist()}
    kept = {tuple(row) for row in narrow.squeeze.reduce.weight[:, :, 0, 0].T[:, :40].tolist()}
    assert len(kept) == 80 * 4
    assert kept < rows


# -- a start from once-for-all's own weights -------------------------------------------------


def renamed(name: str, *pairs: tuple[str, str]) -> str:
    for own, theirs in pairs:
        name = name.replace(own, theirs)
    return name


def published(network: nn.Module, newer: bool) -> dict[str, torch.Tensor]:
    """Return a network's tensors under once-for-all's names, as older or newer releases write."""
    generator = torch.Generator().manual_seed(1)
    out = {}
    for own, tensor in network.state_dict().items():
        name = renamed(
            own,
            ("stem.", "first_conv."),
            ("head.", "final_expand_layer."),
            ("hidden.0.weight", "feature_mix_layer.conv.weight"),
            ("classifier.", "classifier.linear."),
            (".squeeze.", ".depth_conv.se.fc."),
            (".depthwise.", ".depth_conv."),
            (".project.", ".point_linear."),
            (".0.expand.", ".0.inverted_bottleneck."),
            *((f".{place}.expand.", f".{place}.inverted_bottleneck.") for place in (1, 2, 3)),
            (".norm.", ".bn."),
        )
        block = re.fullmatch(r"stages\.(\d)\.(\d)\.(.+)", name)
        if block is None:
            out[name] = tensor[:, :, None, None] if "mix" in name else tensor
            continue
        number, leaf = max(0, 4 * int(block[1]) - 3 + int(block[2])), block[3]
        prefix = f"blocks.{number}.{'conv' if newer else 'mobile_inverted_conv'}."
        if number and ".se." not in leaf:
            leaf = renamed(leaf, (".bn.", ".bn.bn."), ("conv.weight", "conv.conv.weight"))
        out[prefix + leaf] = tensor
        if leaf == "depth_conv.conv.conv.weight":
            for large, small in ((7, 5), (5, 3)):
                drawn = torch.randn(small**2, small**2, generator=generator)
                out[f"{prefix}depth_conv.conv.{large}to{small}_matrix"] = drawn
    return out


def theirs():
    """Return the largest network, padded and normalised as once-for-all has it, weights random."""
    config = SPACE.config(SPACE.parse(LARGEST), 1000) | {"same": False, "eps": 1e-5}
    torch.manual_seed(0)
    network = type(parent(2, 3))(**config).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("newer", [False, True])
def test_once_for_alls_weights_are_taken_from_a_file(tmp_path, monkeypatch, newer):
    network = theirs()
    given = published(network, newer)
    torch.save({"state_dict": given}, tmp_path / "ofa")
    monkeypatch.setenv("METAD2A_ONCE_FOR_ALL", str(tmp_path / "ofa"))
    own = SPACE.build(SPACE.parse(LARGEST), 5, pretrained=True).eval()
    assert (own.config["same"], own.config["eps"]) == (False, 1e-5)
    state = network.state_dict()
    changed = {
        name
        for name, tensor in own.state_dict().items()
        if not name.startswith("classifier") and not torch.equal(tensor, state[name])
    }
    assert changed == {"stem.conv.weight", "stem.norm.running_mean"}
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    with torch.inference_mode():  # but for the row and column beside the padding
        expected = network.stem((x - mean) / deviation)[..., 1:, 1:]
        torch.testing.assert_close(own.stem(2 * x - 1)[..., 1:, 1:], expected)

    # Smaller networks take the first channels, and kernels transformed one after the other.
    text = LARGEST.replace("ks7777777", "ks7777753").replace("e6666666", "e6666636")
    small = SPACE.build(SPACE.parse(text), 5, pretrained=True)
    wide = network.stages[2][1]
    kept = small.stages[2][1]
    assert torch.equal(kept.project.conv.weight, wide.project.conv.weight[:, :120])
    assert torch.equal(kept.squeeze.reduce.weight, wide.squeeze.reduce.weight[:32, :120])
    assert torch.equal(kept.depthwise.norm.running_var, wide.depthwise.norm.running_var[:120])
    inner = "conv" if newer else "mobile_inverted_conv"
    at = f"blocks.{{}}.{inner}.depth_conv.conv"
    centre = wide.depthwise.conv.weight[:120, 0, 1:6, 1:6].flatten(1)
    five = centre @ given[at.format(6) + ".7to5_matrix"].T
    torch.testing.assert_close(kept.depthwise.conv.weight.flatten(1), five)
    centre = network.stages[2][2].depthwise.conv.weight[:, 0, 1:6, 1:6].flatten(1)
    five = (centre @ given[at.format(7) + ".7to5_matrix"].T).reshape(-1, 5, 5)
    three = five[:, 1:4, 1:4].flatten(1) @ given[at.format(7) + ".5to3_matrix"].T
    torch.testing.assert_close(small.stages[2][2].depthwise.conv.weight.flatten(1), three)


def test_files_of_another_kind_are_refused(tmp_path, monkeypatch):
    architecture = SPACE.parse(SMALLEST)
    (tmp_path / "text").write_text("no weights", encoding="utf-8")
    given = published(theirs(), newer=True)
    torch.save(
        {"state_dict": {**given, "first_conv.conv.weight": torch.zeros(24, 3, 3, 3)}},
        tmp_path / "wider",
    )
    torch.save({"state_dict": {"a.weight": torch.zeros(1)}}, tmp_path / "other")
    for name, message in (
        ("missing", "cannot be read.*No such file"),
        ("text", "cannot be read"),
        ("wider", "is no MobileNetV3.*1 of .* tensors.*'stem.conv.weight' the first"),
        ("other", "is no MobileNetV3"),
    ):
        monkeypatch.setenv("METAD2A_ONCE_FOR_ALL", str(tmp_path / name))
        with pytest.raises(ArtifactError, match=message):
            SPACE.build(architecture, 2, pretrained=True)
    assert SPACE.build(architecture, 2) is not None
