"""Results of networks on the dataset itself: in a space of cells, and as files of the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

import metad2a
from metad2a.cli import main
from metad2a.cli._given import read_given
from metad2a.errors import InputError
from metad2a.model.results import (
    LENGTH,
    LEVEL,
    NOISE,
    SLOPE,
    SMOOTH,
    STEEPER,
    Seen,
    conditioned,
)
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
CELLS = [SPACE.format(one) for one in [(3, 1, 3, 0, 3, 2), (3,) * 6, (2, 2, 1, 3, 1, 4)]]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Stripes, whose width is the class: uint8 (600, 20, 20, 3) and int (600,)."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 200)
    images = rng.integers(0, 90, (600, 20, 20, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:: label + 2] += 130
    return images, labels


@pytest.fixture(scope="module")
def found(data) -> metad2a.Suggestions:
    return metad2a.suggest(data, space=SPACE.name, k=6)


def seen(found, networks) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies in percent and widths of intervals in logits, float64 (n,) each."""
    every = found.predict(SPACE.as_array(networks))
    widths = [logit(one.interval[1]) - logit(one.interval[0]) for one in every]
    return np.array([one.accuracy for one in every]), np.array(widths)


# -- the process -----------------------------------------------------------------------------


def logit(percent):
    return np.log(percent / (100 - percent))


def test_the_answer_is_that_of_the_joint_distribution():
    """Level, slope, smooth part and noise of three networks, two of which are known to reach 60 %."""
    rng = np.random.default_rng(0)
    quality, traits = np.array([-1.0, 0.2, 1.5]), rng.normal(size=(3, 4)) * LENGTH / 3
    every = Seen(np.array([40.0, 55.0, 60.0]), quality, traits)
    apart = np.sqrt(((traits[:, None] - traits[None]) ** 2).mean(2)) * np.sqrt(5) / LENGTH
    smooth = SMOOTH**2 * (1 + apart + apart**2 / 3) * np.exp(-apart)
    covariance = LEVEL**2 + SLOPE**2 * np.outer(quality, quality) + smooth
    mean = logit(every.accuracy) + STEEPER * quality
    noise = NOISE**2 + 1 / (200 * 0.6 * 0.4)
    inverse = np.linalg.inv(covariance[:2, :2] + noise * np.eye(2))
    middle = mean[2] + covariance[2, :2] @ inverse @ (logit(60.0) - mean[:2])
    spread = covariance[2, 2] - covariance[2, :2] @ inverse @ covariance[:2, 2] + NOISE**2
    found = conditioned(
        every[np.array([2])], every[:2], np.array([60.0, 60.0]), np.array([200, 200])
    )
    expected = middle + 1.6449 * np.sqrt(spread) * np.array([0, -1, 1])
    # Half an image on either side moves 60 % of 200 a little towards the middle.
    np.testing.assert_allclose([logit(one[0]) for one in found], expected, atol=0.01)


# -- suggestions -----------------------------------------------------------------------------


def test_results_move_and_narrow_what_is_expected_of_all_others(found):
    networks = [one.architecture for one in found.predict(found.compared.architectures)]
    before, last = seen(found, networks)
    for count in (2, 4, 8):
        known = dict(zip(networks[:count], before.tolist(), strict=False))
        _, width = seen(found.given(known), networks)
        assert width.mean() < last.mean()
        last = width
        lower = {name: value - 15 for name, value in known.items()}
        after, _ = seen(found.given(lower), networks)
        assert after[count:].mean() < before[count:].mean() - 0.5


def test_results_that_contradict_the_ranking_change_it(found):
    rows = found.predict(found.compared.architectures)
    networks = [one.architecture for one in sorted(rows, key=lambda one: -one.accuracy)]
    top, bottom = networks[:60:6], networks[-60::6]
    known = dict.fromkeys(top, 50.0) | dict.fromkeys(bottom, 70.0)
    others = [one for one in networks[:60] + networks[-60:] if one not in known]
    before, after = seen(found, others)[0], seen(found.given(known), others)[0]
    half = len(others) // 2
    assert before[:half].mean() > before[half:].mean()
    assert after[:half].mean() < after[half:].mean()


def test_what_is_given_is_compared_with_what_it_reached(found):
    again = found.given({CELLS[0]: 40.0})
    cell = SPACE.canonical(SPACE.parse(CELLS[0]))
    assert list(cell) in again.compared.architectures.tolist()
    (one,) = again.predict(np.array([cell]))
    assert one.accuracy < seen(found, CELLS[:1])[0][0] - 5
    assert one.to_dict()["measured"]["accuracy"] == 40.0
    assert one.measured.protocol == "as given"
    assert "trained as the one network whose result is known here" in str(again)
    assert plain(again.given({CELLS[0]: 40.0})) == plain(again)


def plain(found) -> str:
    return json.dumps([one.to_dict() for one in found])


def test_the_order_of_results_and_how_a_cell_is_written_do_not_matter(found):
    mirrored = next(cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell)
    pair = [SPACE.format(mirrored), SPACE.format(SPACE.canonical(mirrored))]
    one, other = ({name: 40.0, CELLS[1]: 70.0} for name in pair)
    networks = CELLS + pair
    first = seen(found.given(one), networks)[0]
    assert first == pytest.approx(seen(found.given(dict(reversed(other.items()))), networks)[0])
    assert first == pytest.approx(
        seen(found.given({pair[0]: 40.0}).given({CELLS[1]: 70.0}), networks)[0]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {CELLS[0]: 50, "|conv~0|": 60},
            r"Result 2 of those given, '\|conv~0\|': no network of the sp",
        ),
        ({CELLS[0]: 101}, r"Result 1 of those given, .*the accuracy 101 is not .* from 0 to 100"),
        ({CELLS[0]: float("nan")}, "the accuracy nan is not one in percent"),
        ({CELLS[0]: True}, "the accuracy True is not one in percent"),
        ({CELLS[0]: "50"}, "the accuracy '50' is not one in percent"),
        (
            {CELLS[0]: 0.5, CELLS[1]: 0.7},
            "All 2 accuracies given are 1 or below, 0.5 first.*by 100",
        ),
        ({(3, 1): 50}, "a network is given by its string"),
        ([CELLS[0]], "must be networks and accuracies"),
        ({}, "There are no results"),
    ],
)
def test_what_is_no_result_is_refused(found, given, message):
    with pytest.raises(InputError, match=message):
        found.given(given)


def test_labels_at_random_on_noise_are_said_to_say_nothing(data):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, data[0].shape, dtype=np.uint8)
    noise = metad2a.suggest((images, rng.permutation(data[1])), space=SPACE.name, k=3)
    assert "cannot be told" in noise.note and noise.note in str(noise)
    assert [one.accuracy for one in noise] == pytest.approx([100 / 3] * 3)
    assert all(one.interval[0] < 100 / 3 < one.interval[1] for one in noise)
    assert len(noise.ties) == 3
    # A result that says otherwise is believed.
    known = noise.given({noise[0].architecture: 90.0})
    assert not known.note and known[0].accuracy > 100 / 3


def test_every_network_is_listed_once(found):
    names = [one.architecture for one in found.predict(found.compared.architectures)]
    canonical = {SPACE.canonical(SPACE.parse(name)) for name in names}
    assert len(canonical) == len(names)


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.json", json.dumps({CELLS[0]: 61.5, CELLS[1]: 70})),
        ("r.csv", f"network,accuracy\n{CELLS[0]},61.5\n\n{CELLS[1]}, 70\n"),
        ("r.txt", f"\ufeff{CELLS[0]},61.5\n{CELLS[1]},70"),
    ],
)
def test_results_are_read_from_either_form(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_given(path) == {CELLS[0]: 61.5, CELLS[1]: 70.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no result"),
        ("{}", "holds no result"),
        ("{", "is no JSON"),
        ("[1]", "holds a list where an object is wanted"),
        ("a,50\nb,sixty", "row 2: the accuracy of 'b' is 'sixty', which is no number"),
        ("network,accuracy\na,50\nb", "row 2: 'b' has 1 cells, not a network and its accuracy"),
        ("a,50\na,51", "row 2: 'a' is there a second time"),
        ('{"a": 50, "a": 51}', "row 2: 'a' is there a second time"),
        ('a,"50', "is no CSV"),
    ],
)
def test_what_is_no_file_of_results_is_refused(tmp_path, text, message):
    path = tmp_path / "results"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_given(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read as text"):
        read_given(tmp_path / "results")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        read_given(tmp_path / "binary")


def test_the_command_takes_results(tmp_path, capsys):
    path = tmp_path / "known.csv"
    path.write_text(f"{CELLS[0]},12.5\n", encoding="utf-8")
    command = ["suggest", "sklearn:digits", "--space", SPACE.name, "--k", "2", "--json"]
    first = []
    for more in ([], ["--given", str(path)]):
        assert main([*command, *more]) == 0
        first.append(json.loads(capsys.readouterr().out)["candidates"][0])
    assert first[1]["accuracy"] < first[0]["accuracy"] - 5
    path.write_text("r64-s5,99.5\n", encoding="utf-8")
    assert main([*command, "--given", str(path)]) == 3
    assert "Result 1 of those given, 'r64-s5'" in capsys.readouterr().out
