"""Decoding in a child process: the same pixels, and nothing that an image does reaches us."""

import gc
import io
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_datasets_contract import FIXED, MAKERS, files, folders, png

from metad2a.datasets import FORMS, UnreadableImage, check, child, load_dataset, sandbox
from metad2a.datasets.base import EncodedDataset
from metad2a.datasets.decode import decode
from metad2a.datasets.sandbox import Sandbox, SandboxedDataset
from metad2a.errors import InputError, MetaD2AError
from metad2a.settings import LIMITS

GOOD = png(np.full((8, 9, 3), 7, np.uint8))
# Stands for a decoder with a weakness: it does as the image says.
WEAK = """
import os, signal, time, numpy
from metad2a.datasets import child
honest = child.decode
def decode(data, side, levels):
    if data == b"hang":
        while True: pass
    if data == b"segfault": os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"exit": os._exit(0)
    if data == b"memory": honest(bytes(2 ** 31), side)
    if data == b"raise": raise KeyError("hidden")
    if data == b"huge": return numpy.zeros((1, 1, 3), numpy.uint8), (100_000, 100_000)
    if data == b"write": child.Path("taken").write_text("x")
    return honest(data, side, levels)
child.decode = decode
"""


@pytest.fixture
def weak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    boot = child._BOOT.replace("from metad2a", f"exec({WEAK!r}); from metad2a")
    monkeypatch.setattr(child, "_BOOT", boot)
    monkeypatch.setattr(sandbox, "LIMITS", replace(LIMITS, decode_seconds=0.5))
    box = Sandbox()
    yield box
    box.close()


def alive(pid: int) -> bool:
    """Whether a process exists, as a zombie too."""
    return Path(f"/proc/{pid}").exists()


def pid_of(box: Sandbox) -> int:
    assert box._child is not None
    return box._child.process.pid


@pytest.mark.parametrize("form", sorted(set(FORMS.names()) - set(FIXED)))
def test_the_same_with_and_without(form: str, tmp_path: Path) -> None:
    source = MAKERS[form](tmp_path)
    if not FORMS.get(form).for_strangers:
        with pytest.raises(InputError, match=f"{form} is not opened with sandbox=True"):
            load_dataset(source, sandbox=True)
        return
    with load_dataset(source) as plain, load_dataset(source, sandbox=True) as boxed:
        assert isinstance(boxed, SandboxedDataset) == isinstance(plain, EncodedDataset)
        assert (boxed.name, boxed.form, boxed.classes) == (plain.name, plain.form, plain.classes)
        assert boxed.fingerprint() == plain.fingerprint()
        assert check(boxed) == check(plain)
        for index in range(len(plain)):
            image = boxed.image(index)
            np.testing.assert_array_equal(image, plain.image(index))
            assert image.flags.writeable and image.flags.c_contiguous
            assert boxed.reduced(index, 2)[1] == plain.reduced(index, 2)[1]
            assert boxed.locate(index) == plain.locate(index)


def test_a_large_jpeg_and_unreadable_files_are_the_same_too() -> None:
    stream = io.BytesIO()
    Image.effect_noise((640, 400), 60).convert("RGB").save(stream, "JPEG")
    box = Sandbox()
    for side in (0, 50):
        image, stored = box.decode(stream.getvalue(), side)
        expected = decode(stream.getvalue(), side or None)
        np.testing.assert_array_equal(image, expected[0])
        assert stored == expected[1]
    for data in (b"", b"<svg/>", GOOD[:40], png(np.zeros((9, 4, 3), np.uint8))):
        with pytest.raises(UnreadableImage) as outside:
            decode(data)
        with pytest.raises(UnreadableImage) as inside:
            box.decode(data)
        assert str(inside.value) == str(outside.value)
    assert not box.lost
    box.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hang", "decoding takes more than 0.5 s"),
        (b"segfault", r"crashed \(SIGSEGV\)"),
        (b"exit", "ended the process"),
        (b"raise", "ended the process"),
        (b"huge", "decoding it"),
        (b"write", "ended the process"),
    ],
)
def test_a_lost_child_costs_one_image(weak: Sandbox, data: bytes, reason: str) -> None:
    weak.decode(GOOD)
    first = pid_of(weak)
    with pytest.raises(UnreadableImage, match=reason):
        weak.decode(data)
    assert not alive(first)
    assert weak.lost.total() == 1
    assert weak.decode(GOOD)[1] == (8, 9)
    assert pid_of(weak) != first
    assert not any(path.stat().st_size for path in Path().iterdir())  # No byte is written.


def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "LIMITS", replace(LIMITS, child_bytes=300 * 2**20))
    box, stream = Sandbox(), io.BytesIO()
    Image.new("RGBA", (4000, 3900)).save(stream, "PNG")
    with pytest.raises(UnreadableImage, match=r"MemoryError|ended the process"):
        box.decode(stream.getvalue())
    assert box.decode(GOOD)[1] == (8, 9)
    box.close()


def test_a_child_that_dies_between_two_images_costs_none(weak: Sandbox) -> None:
    weak.decode(GOOD)
    os.kill(pid_of(weak), signal.SIGKILL)
    os.waitid(os.P_PID, pid_of(weak), os.WEXITED | os.WNOWAIT)
    assert weak.decode(GOOD)[1] == (8, 9)
    assert not weak.lost


def test_an_interrupted_answer_is_not_given_to_the_next_image(weak: Sandbox) -> None:
    weak.decode(GOOD)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            weak.decode(b"hang")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert weak.decode(GOOD)[1] == (8, 9)
    assert not weak.lost


def test_one_child_until_closed_and_none_after(tmp_path: Path) -> None:
    dataset = load_dataset(folders(tmp_path), sandbox=True)
    assert isinstance(dataset, SandboxedDataset)
    assert dataset._sandbox._child is None  # Listing needs none.
    check(dataset)
    pid = pid_of(dataset._sandbox)
    assert load_dataset(dataset, sandbox=True) is dataset
    assert load_dataset(dataset) is dataset
    dataset.image(0)
    assert pid_of(dataset._sandbox) == pid
    dataset.close()
    assert not alive(pid)
    dataset.image(0)  # Closed by mistake: works, and the garbage collector cleans up.
    pid = pid_of(dataset._sandbox)
    del dataset
    gc.collect()
    assert not alive(pid)


def test_a_child_ends_with_its_parent() -> None:
    """A parent that is killed cleans nothing up; the closed connection ends the child."""
    context = multiprocessing.get_context("fork")
    theirs, ours = context.Pipe()

    def parent() -> None:
        box = Sandbox()
        box.decode(GOOD)
        theirs.send(pid_of(box))
        os.kill(os.getpid(), signal.SIGKILL)

    process = context.Process(target=parent)
    process.start()
    pid = ours.recv()
    process.join()
    until = time.monotonic() + 10
    while alive(pid) and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_forked_copies_and_threads_do_not_mix(tmp_path: Path) -> None:
    """T forks badly: a copy of the process must not read another's answers."""
    with load_dataset(folders(tmp_path), sandbox=True) as dataset:
        assert isinstance(dataset, SandboxedDataset)
        dataset.image(0)
        pid = pid_of(dataset._sandbox)
        reader, writer = os.pipe()
        dataset._sandbox._lock.acquire()  # By another thread, which a copy has not.
        copy = os.fork()
        if copy == 0:
            signal.alarm(20)
            image = dataset.image(3)
            os.write(writer, image.tobytes() + b"!" * (pid_of(dataset._sandbox) != pid))
            dataset.close()
            os._exit(0)
        dataset._sandbox._lock.release()
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            told = stream.read()
        os.waitpid(copy, 0)
        assert told == dataset.image(3).tobytes() + b"!"
        assert pid_of(dataset._sandbox) == pid
        found: dict[int, np.ndarray] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: dataset.image(i)}))
            for i in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, data in enumerate(files().values()):
            np.testing.assert_array_equal(found[index], decode(data)[0])


def test_the_total_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "LIMITS", replace(LIMITS, ingest_seconds=0.0))
    with load_dataset(folders(tmp_path), sandbox=True) as dataset:
        dataset.image(0)
        with pytest.raises(InputError, match=r"'tree' has taken \d+ s, more than the limit of 0 s"):
            check(dataset)


def test_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_BOOT", "raise SystemExit(3)")
    with pytest.raises(MetaD2AError, match="process that decodes images did not start"):
        Sandbox().decode(GOOD)


def test_the_child_knows_no_secret_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    box = Sandbox()
    box.decode(GOOD)
    assert b"hidden" not in Path(f"/proc/{pid_of(box)}/environ").read_bytes()
    maps = Path(f"/proc/{pid_of(box)}/maps").read_text()
    assert "numpy" in maps
    assert "torch" not in maps and "pyarrow" not in maps
    box.close()
