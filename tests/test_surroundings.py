"""What surrounds a run is anybody's: homes, disks, streams, names, and torch's global settings."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from archives import TREE, tar_bytes, zip_bytes

from metad2a import load_dataset, settings, suggest
from metad2a.cli import main
from metad2a.cli._interrupt import interruptible
from metad2a.errors import InputError
from metad2a.settings import cache_folder
from search import search

IMAGES = np.random.default_rng(0).integers(0, 256, (24, 12, 12, 3), dtype=np.uint8)
LABELS = np.arange(24) % 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in TREE.items():
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "pets"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("METAD2A_CACHE", raising=False)
    monkeypatch.setattr(settings.Path, "home", unknown)
    monkeypatch.setattr(settings.Path, "expanduser", unknown)


@pytest.mark.usefixtures("homeless")
def test_without_a_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert cache_folder() is None
    assert main(["doctor"]) == 0
    assert "no home" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    with pytest.raises(InputError, match="no home"):
        load_dataset("~/pictures")


@pytest.mark.filterwarnings("default")  # as outside of tests
@pytest.mark.parametrize("place", ["missing", "a file"])
def test_a_search_is_not_lost_for_its_checkpoint(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cache"
    if place == "a file":
        path.write_text("")
    monkeypatch.setenv("METAD2A_CACHE", str(path if place == "a file" else "/proc/nowhere"))
    command = ["search", "sklearn:digits", "--images", "64", "--channels", "2", "--cells", "1"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "Warning: Cannot write the checkpoint" in told.err and "goes on without" in told.err
    assert "|" in told.out or "nasbench201" in told.out


@pytest.mark.parametrize("value", [0, -1, 1_000_000, 1.5])
def test_sizes_of_a_supernet(value: float) -> None:
    with pytest.raises(InputError, match=r"cells=.* must be a whole number from 1 to 200"):
        search((IMAGES, LABELS), images=8, cells=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [300, 5_000])
def test_names_that_are_too_long(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("check", "suggest", "search"):
        assert main([command, "a" * length]) == 3
        told = capsys.readouterr().err
        assert "Error: " in told and "Traceback" not in told and len(told) < 600


def test_an_empty_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", ""]) == 3
    assert "empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("> /dev/full", 1)]
)
def test_streams_that_are_closed_or_full(redirection: str, code: int, folder: Path) -> None:
    if "full" in redirection and not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    command = f"'{sys.executable}' -m metad2a check '{folder}' {redirection}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    if code:
        assert done.stderr == "Error: The answer cannot be written: No space left on device.\n"


def test_a_closed_terminal_ends_in_good_order() -> None:
    with interruptible() as asked:
        os.kill(os.getpid(), signal.SIGHUP)
        until = time.monotonic() + 5
        while not asked() and time.monotonic() < until:
            time.sleep(0.01)
        assert asked()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with interruptible() as asked:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_torch_is_left_as_it_was_and_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path))
    plain = suggest((IMAGES, LABELS), k=1, minutes=1)[0]
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            found = suggest((IMAGES, LABELS), k=1, minutes=1)
            result = search((IMAGES, LABELS), images=16, channels=2, cells=1)
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[0].architecture == plain.architecture
    assert result.images >= 16
    assert result.class_names == ("0", "1")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_results_can_be_pickled(ending: str, tmp_path: Path) -> None:
    tree = {name.replace("/", f"/{i}"): data for i in range(4) for name, data in TREE.items()}
    path = tmp_path / f"x{ending}"
    path.write_bytes(zip_bytes(tree) if ending == ".zip" else tar_bytes(tree))
    found = suggest(path, k=2, minutes=1)
    again = pickle.loads(pickle.dumps(found))
    assert [one.architecture for one in again] == [one.architecture for one in found]
    assert again.dataset.fingerprint() == found.dataset.fingerprint()
