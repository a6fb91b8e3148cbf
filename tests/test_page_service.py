"""The service behind the page: files of strangers, the line of heavy jobs, and who sees which."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import page_outlook
import page_server
import pytest
from test_page_views import training

from metad2a import InputError
from metad2a.page import Backend, values
from metad2a.page import bench as bench_module
from metad2a.page import jobs as jobs_module
from metad2a.page.bench import SEATS, Bench, Running, Ticket, Waiting
from metad2a.page.described import Described, describe_source
from metad2a.page.events import AUTOMATIC, Events
from metad2a.page.jobs import Job
from metad2a.page.orders import AFTER_SECONDS, Order, Point
from metad2a.page.searching import Found, SearchOrder
from metad2a.page.states import GOES_ON
from metad2a.page.training import TrainOrder, _Foresight
from metad2a.page.uploads import KEPT_SECONDS, Uploads
from metad2a.page.visit import Visit
from metad2a.page.visits import MOST, Visits
from metad2a.page.worker import Worker
from metad2a.training.train import TrainProgress, train


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "cache")


def arrive(uploads: Uploads, name: str = "a.zip") -> str:
    """Put a file where Gradio puts an upload, and keep it."""
    place = uploads.folder / "hash"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(b"content")
    return uploads.keep(str(place / name))


def test_w_the_same_file_of_two_visitors_is_two_files(uploads: Uploads) -> None:
    mine, yours = arrive(uploads), arrive(uploads)
    assert mine != yours and uploads.claim(mine, "me") == Path(mine)
    assert uploads.claim(mine, "me") == Path(mine)
    for visitor in ("you", None):
        with pytest.raises(InputError, match="not uploaded by you"):
            uploads.claim(mine, visitor)
    assert uploads.claim(yours, "you").read_bytes() == b"content"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{cache}/hash/a.zip",
        "{cache}/own/../x",
        "{cache}/own/x/../../y",
        "{cache}/own",
        "",
    ],
)
def test_w_other_paths_are_refused(uploads: Uploads, path: str) -> None:
    arrive(uploads)
    with pytest.raises(InputError, match="not uploaded by you"):
        uploads.claim(path.format(cache=uploads.folder), "me")


def test_uploads_go_after_an_hour(uploads: Uploads) -> None:
    old = arrive(uploads)
    uploads.claim(old, "me")
    new = arrive(uploads, "new.zip")
    written = Path(old).stat().st_mtime
    for path in (old, Path(old).parent, uploads.folder / "hash", uploads.folder / "hash/a.zip"):
        os.utime(path, (written - KEPT_SECONDS - 60,) * 2)
    uploads.sweep()
    assert not Path(old).parent.exists() and Path(new).exists()
    with pytest.raises(InputError, match="deleted after an hour"):
        uploads.claim(old, "me")
    uploads.sweep(written + KEPT_SECONDS + 60)
    assert sorted(path.name for path in uploads.folder.iterdir()) == ["own"]
    assert not list((uploads.folder / "own").iterdir())


def test_messages_name_no_folder_and_addresses_are_uploads_only(uploads: Uploads) -> None:
    path = arrive(uploads)
    assert uploads.scrub(f"{path} and {uploads.folder}/x") == "a.zip and x"
    assert uploads.at_address(f"http://h:1/gradio_api/file={path}") == path
    assert uploads.at_address("http://h:1/gradio_api/file=/etc/passwd") is None
    taken = uploads.take("data:application/zip;base64,YWJj")
    assert Path(taken).read_bytes() == b"abc"
    for text in ("http://169.254.169.254/", "data:x;base64,%%%", "", "/etc/passwd"):
        with pytest.raises(InputError, match="must be an uploaded file"):
            uploads.take(text)


class Pretended:
    """A worker that runs until someone sets its news or asks it to stop."""

    running: list[Pretended] = []  # noqa: RUF012  (the tests look here)

    def __init__(self, order: Order) -> None:
        self.found: list[Any] = [Point(0.1, "DropNas", 1.0)]
        self.deaf = order.source == "deaf"
        Pretended.running.append(self)

    def news(self) -> list[Any]:
        found, self.found = self.found, []
        return found

    def stop(self) -> None:
        if not self.deaf:
            self.found = [Found([], 1.0)]

    def close(self) -> None:
        Pretended.running.remove(self)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "Worker", Pretended)
    monkeypatch.setattr(bench_module, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(bench_module, "_STOP_SECONDS", 0.01)


def order(source: str = "shapes") -> SearchOrder:
    return SearchOrder(
        work=page_server.check,
        source=source,
        uploaded=False,
        space="nasbench201",
        place=Path("nowhere"),
        k=2,
        max_params=None,
        max_macs=None,
        minutes=1.0,
    )


async def first(bench: Bench, ticket: Ticket, kind: type) -> tuple[Any, Any]:
    """Go on with a job until it says something of a kind."""
    answers = bench.run(ticket)
    async for one in answers:
        if isinstance(one, kind):
            return answers, one
    raise AssertionError(f"no {kind}")


def test_jobs_run_one_at_a_time_and_say_who_waits(pretended: None) -> None:
    async def go() -> None:
        bench = Bench()
        tickets = [Ticket(order()) for _ in range(SEATS + 2)]
        leader, _ = await first(bench, tickets[0], Running)
        lines = [await first(bench, ticket, Waiting) for ticket in tickets[1:-1]]
        assert [one.place for _, one in lines] == list(range(1, SEATS + 1))
        assert 60 < lines[0][1].seconds < lines[1][1].seconds
        assert len(Pretended.running) == 1
        with pytest.raises(InputError, match="jobs are waiting already"):
            await first(bench, tickets[-1], Waiting)
        # One that waits leaves at once; the rest move up.
        tickets[1].cancel()
        assert [one async for one in lines[0][0]] == [None]
        assert (await anext(lines[1][0])).place == 1
        # The visitor at the front goes away: the process ends, and the next one's turn comes.
        await leader.aclose()
        assert not Pretended.running
        assert isinstance(await anext(lines[1][0]), Running)
        await asyncio.gather(*(answers.aclose() for answers, _ in lines[1:]))
        assert not Pretended.running

    asyncio.run(go())


@pytest.mark.parametrize(("source", "kind"), [("shapes", Found), ("deaf", type(None))])
def test_a_cancelled_job_ends_with_what_it_has_or_without(
    pretended: None, source: str, kind: type
) -> None:
    async def go() -> None:
        ticket = Ticket(order(source))
        answers, _ = await first(Bench(), ticket, Running)
        ticket.cancel()
        *_, last = [one async for one in answers]
        assert isinstance(last, kind) and not Pretended.running

    asyncio.run(go())


def test_a_job_cancelled_twice_ends_at_once(
    pretended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_module, "_STOP_SECONDS", 10_000.0)

    async def go() -> None:
        ticket = Ticket(order("deaf"))
        answers, _ = await first(Bench(), ticket, Running)
        ticket.cancel()
        assert (await anext(answers)).stage == "stopping"
        ticket.cancel()
        *_, last = [one async for one in answers]
        assert last is None and not Pretended.running

    asyncio.run(go())


def test_the_time_left_is_told_by_the_pace_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from metad2a.page import training

    now = [100.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    foresight = _Foresight()

    def told(phase: str, remaining: float, epoch: float = 0.0) -> Point:
        epochs = 4.0 if phase == "training" else 0.0
        return foresight.point(TrainProgress(phase, 0.1, remaining, epoch, epochs))

    looking = told("looking at the images", 58.0)
    assert (looking.left, looking.surely) == (58.0 + AFTER_SECONDS, False)
    assert told("training", 50.0).left == 50.0 + AFTER_SECONDS
    now[0] += 5.0
    # One of four epochs took 5 s: three more take 15; then the network is judged and written.
    point = told("training", 45.0, 1.0)
    assert point.surely and point.left is not None and 20 < point.left < 25
    assert told("training", 6.0, 1.0).left == 6.0 + AFTER_SECONDS, "the time is a limit"


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that must happen soon."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


class Ended(list[tuple[Any, bool]]):
    """The ends of a job, of which there may be one."""

    def __call__(self, outcome: Any, early: bool) -> None:
        self.append((outcome, early))


def test_a_job_goes_on_unseen_unless_others_wait(
    pretended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "ALONE_SECONDS", 0.1)

    async def go() -> None:
        bench, ends = Bench(), [Ended(), Ended()]
        first = Job(bench, order(), ends[0])
        await asyncio.sleep(0.3)
        assert not ends[0] and isinstance(first.look(), Running)
        second = Job(bench, order(), ends[1])

        def turned() -> bool:
            return isinstance(second.look(), Running)

        await until(turned)
        ((outcome, early),) = ends[0]
        assert "no page had looked at it" in str(outcome) and not early
        assert len(Pretended.running) == 1
        second.cancel()
        await until(lambda: ends[1])
        assert isinstance(ends[1][0][0], Found) and ends[1][0][1]
        assert not Pretended.running

    asyncio.run(go())


def test_a_job_that_was_left_ends_unless_another_page_looks(
    pretended: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_LEFT_SECONDS", 0.1)

    async def go() -> None:
        ended = Ended()
        job = Job(Bench(), order(), ended)
        job.leave()
        job.look()
        await asyncio.sleep(0.3)
        assert not ended
        job.leave()
        await until(lambda: ended)
        assert not Pretended.running

    asyncio.run(go())


@pytest.fixture(scope="module")
def shapes() -> Iterator[Described]:
    with pytest.MonkeyPatch.context() as patch:
        page_outlook.put_in_place(patch.setattr)
        yield describe_source("shapes", False, values.SPACE)


def test_a_page_loaded_again_finds_its_job_and_what_it_brought(
    pretended: None, shapes: Described, uploads: Uploads
) -> None:
    backend = Backend(page_server.check, page_server.refine, train)
    visit, stranger = Visit(shapes, 3), Visit(shapes, 3)
    keys = [uploads.visits.keep(one) for one in (visit, stranger)]

    def places() -> list[Path]:
        return list((uploads.folder / "own").iterdir())

    async def go() -> None:
        events = Events(uploads, Bench(), backend)
        shown = await events.train(visit, AUTOMATIC, 3.0)
        assert GOES_ON in shown["job"] and not shown["train"]["interactive"]
        await until(lambda: "progressbar" in events.look(visit)["job"])
        again = events.again(keys[0])
        assert again["visit"] is visit and "progressbar" in again["job"]
        assert again["minutes"] == {"value": 3.0} and again["cancel"] == {"visible": True}
        # W: who has another link, or guesses one, neither sees nor ends it.
        for key in ("", keys[0][:-1], keys[0].upper() + "0", keys[1]):
            assert "progressbar" not in events.again(key).get("job", "")
        for other in (stranger, None):
            assert "progressbar" not in events.look(other).get("job", "")
            events.cancel(other)
        # One at a time, whichever tab asks.
        assert "progressbar" in (await events.train(visit, AUTOMATIC, 1.0))["job"]
        assert len(Pretended.running) == len(places()) == 1
        (place,) = places()
        Pretended.running[0].found = [
            training(visit, place / "network", classes=["circle", "cross", "ring"])
        ]
        await until(lambda: visit.job is None)
        brought = events.look(visit)
        assert GOES_ON not in brought["job"] and brought["train"]["interactive"]
        assert "Your trained network" in brought["trained"] and places() == [place]
        assert events.again(keys[0])["trained"] == brought["trained"]
        # The next one, ended by another tab, leaves no folder, and the network stays.
        await events.search(visit, "refine", 1.0)
        await until(lambda: Pretended.running)
        events.cancel(uploads.visits.find(keys[0]))
        await until(lambda: visit.job is None)
        assert "Nothing was measured" in events.again(keys[0])["job"]
        assert places() == [place] and not Pretended.running

    asyncio.run(go())


def test_another_dataset_lets_go_of_the_job(
    pretended: None, shapes: Described, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_LEFT_SECONDS", 0.05)

    async def go() -> None:
        visit = Visit(shapes, 3)
        backend = Backend(page_server.check, page_server.refine, train)
        events = Events(uploads, Bench(), backend)
        await events.train(visit, AUTOMATIC, 3.0)
        (shown,) = events.upload(visit, None, 3, values.SPACE, "me")
        assert shown["visit"] is None and shown["job"] == ""
        await until(lambda: visit.job is None)
        assert not Pretended.running

    asyncio.run(go())


def visited(job: object = None) -> Any:
    return SimpleNamespace(job=job)


def test_visits_are_found_by_their_keys_for_an_hour_or_as_long_as_a_job() -> None:
    visits = Visits(KEPT_SECONDS)
    one, other, busy = visited(), visited(), visited("a job")
    kept = visits.keep(busy)
    key = visits.keep(one)
    assert visits.keep(one) == key != visits.keep(other)
    assert visits.find(key) is one and visits.find("") is None
    for _ in range(MOST):
        visits.keep(visited())
    assert visits.find(key) is None, "the oldest goes first"
    key = visits.keep(one)
    visits.sweep(time.time() + KEPT_SECONDS + 1)
    assert visits.find(key) is None and visits.find(kept) is busy
    busy.job = None
    visits.sweep(time.time() + KEPT_SECONDS + 1)
    assert visits.find(kept) is None


@pytest.mark.parametrize("network", [None, 1, "nothing"])
def test_a_training_brings_a_folder_and_what_is_shown_of_it(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_outlook.put_in_place(monkeypatch.setattr)
    wanted = TrainOrder(
        work=train,
        source="shapes",
        uploaded=False,
        space=values.SPACE,
        max_params=None,
        max_macs=2_000_000,
        minutes=0.1,
        network=network,
        place=tmp_path,
    )
    points: list[Point] = []
    if network == "nothing":
        with pytest.raises(InputError, match="nothing"):
            wanted.carry_out(points.append, lambda: False)
        return
    found = pickle.loads(pickle.dumps(wanted.carry_out(points.append, lambda: False)))
    assert points[0].stage == "reading" and points[-1].stage == "saving"
    assert found.classes == ("circle", "cross", "ring", "square", "stripes", "triangle")
    assert found.told["network"]["macs"] <= 2_000_000
    assert found.confusion.sum() == found.told["test_images"] == 72
    assert found.accuracy == pytest.approx(100 * found.confusion.trace() / 72)
    with zipfile.ZipFile(io.BytesIO(found.zipped())) as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert {"model.py", "model.safetensors", "labels.json", "README.md"} <= names
    assert names == set(found.files)


def test_a_worker_that_dies_is_told_of() -> None:
    worker = Worker(order("no such example"))
    try:
        with pytest.raises(InputError, match="There is no example 'no such example'"):
            while not worker.news():
                pass
            while True:
                worker.news()
    finally:
        worker.close()
    worker = Worker(order())
    assert worker._process.pid is not None
    worker._process.kill()
    with pytest.raises(InputError, match="ended before it had a result"):
        while True:
            worker.news()
    worker.close()
