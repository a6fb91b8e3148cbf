"""The web page under load: how long suggestions take, errors, refusals, and memory that stays.

The page is the real one, in a process of its own with the search behind it, and is asked over HTTP
on this machine, which also plays the users. Every user uploads a zip of drawn photographs once.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from _page_users import Answer, Page, User
from _report import number, parser, publish, required, run, table
from PIL import Image

CLASSES, SIDE = 10, 64
CALLS, FOUR = 20, 4
"""Suggestions timed of each user, and users of the second timing."""
GROWTH_MB = 50.0
"""What memory may differ by after the same work, with nothing kept; twice that after the load."""
REFINE_MINUTES = 3.0


def write_photos(path: Path, count: int) -> Path:
    """Write a zip of drawn photographs: soft patches in the colours of the class, and grain."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(count):
            label = i % CLASSES
            tint = 128 + 90 * np.sin(label + np.arange(3))
            patches = np.clip(rng.normal(tint, 50, (5, 5, 3)), 0, 255).astype(np.uint8)
            soft = Image.fromarray(patches).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            grain = rng.normal(0, 8, (SIDE, SIDE, 3))
            picture = np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=85)
            archive.writestr(f"class_{label}/{i:06d}.jpg", buffer.getvalue())
    return path


def at_once(users: Sequence[User], do: Callable[[User], list[Answer]]) -> list[Answer]:
    """Let users do the same thing at the same time."""
    with ThreadPoolExecutor(len(users)) as pool:
        return [answer for answers in pool.map(do, users) for answer in answers]


def suggestions(user: User, calls: int) -> list[Answer]:
    return [user.suggest() for _ in range(calls)]


def visit(user: User, end: float) -> list[Answer]:
    """Use the page as long as there is time; every fourth user also searches on, every fourth trains."""
    answers: list[Answer] = []
    turn = user.number
    while time.monotonic() < end and user.page.runs():
        kinds = [user.suggest, user.suggest, user.look, user.example, user.check_dataset]
        if user.number % 4 == 0:
            kinds.append(user.refine)
        if user.number % 4 == 2:
            kinds.append(user.train)
        answers.append(kinds[turn % len(kinds)]())
        turn += 1
        if answers[-1].outcome != "answered":
            time.sleep(1)
    return answers


def beside_a_job(page: Page, user: User, calls: int) -> list[Answer]:
    """Time suggestions while somebody's refinement runs; none where it did not start."""
    begun, leave = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(User(page, -1).refine, REFINE_MINUTES, begun, leave)
        try:
            return suggestions(user, calls) if begun.wait(120) and not job.done() else []
        finally:
            leave.set()


def percentile(answers: Sequence[Answer], percent: float) -> float:
    """Return a percentile of the seconds of what was answered, or NaN."""
    seconds = [one.seconds for one in answers if one.outcome == "answered"]
    return float(np.percentile(seconds, percent)) if seconds else float("nan")


def times(name: str, answers: Sequence[Answer]) -> list[str]:
    """Return the cells of a line of the table of times."""
    answered = sum(one.outcome == "answered" for one in answers)
    return [name, f"{answered:,}", *(number(percentile(answers, p), 2) for p in (50, 95, 100))]


def outcomes(answers: Sequence[Answer]) -> list[list[str]]:
    """Return the lines of the table of what users got, by what they asked for."""
    rows = []
    for kind in sorted({one.kind for one in answers}):
        own = [one for one in answers if one.kind == kind]
        counts = Counter(one.outcome for one in own)
        name, answered, *taken = times(kind, own)
        rows.append(
            [
                name,
                f"{len(own):,}",
                answered,
                f"{counts['refused']:,}",
                f"{counts['error']:,}",
                *taken[:2],
            ]
        )
    return rows


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--minutes",
        type=float,
        default=1.0,
        metavar="M",
        help="of the load by all users (default: 1; the full run has 10)",
    )
    arguments.add_argument(
        "--images", type=int, default=5_000, metavar="N", help="in each user's zip (default: 5000)"
    )
    arguments.add_argument(
        "--users", type=int, default=20, metavar="N", help="at once (default: 20)"
    )
    arguments.add_argument(
        "--calls",
        type=int,
        default=CALLS,
        metavar="N",
        help=f"suggestions timed of each user (default: {CALLS})",
    )
    args = arguments.parse_args()
    crowd, calls = max(args.users, FOUR), max(args.calls, 1)
    memory: list[tuple[str, dict[str, float]]] = []

    def say(text: str) -> None:
        print(f"{text} ...", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        say(f"drawing {args.images:,} photographs")
        photos = write_photos(folder / "photos.zip", args.images)
        megabytes = photos.stat().st_size / 1e6
        say("starting the page")
        page = stack.enter_context(Page.started(folder))
        memory.append(("before any question", page.keeps()))
        users = [User(page, i) for i in range(crowd)]
        uploads = [user.upload(photos) for user in users]
        first = users[0].suggest()
        say("one user")
        one = suggestions(users[0], calls)
        say(f"{FOUR} users at once")
        four = at_once(users[:FOUR], lambda user: suggestions(user, calls))
        say("beside a refinement")
        beside = beside_a_job(page, users[0], calls)

        def batch() -> list[Answer]:
            return at_once(users, lambda user: [user.suggest(), user.example(), user.look()])

        say("two identical batches")
        batches = []
        for name in ("after one batch", "after the same batch again", "and a third time"):
            batches += batch()
            memory.append((name, page.keeps()))
        say(f"{crowd} users at once for {args.minutes:g} minutes")
        end = time.monotonic() + 60 * args.minutes
        load = at_once(users, lambda user: visit(user, end))
        memory.append((f"after {args.minutes:g} minutes of load", page.keeps()))
        batches += batch()
        memory.append(("after one more batch", page.keeps()))
        ended = page.stop()
        traces = page.log().count("Traceback")

    everything = [first, *uploads, *one, *four, *beside, *batches, *load]
    wrong = [answer for answer in everything if answer.outcome == "error"]
    *_, second, third, _, last = (kept["memory, MB"] for _, kept in memory)
    parts = [
        f"{args.images:,} drawn photographs of {SIDE}x{SIDE} pixels in {CLASSES} classes, a zip of "
        f"{megabytes:.1f} MB that each user uploads once. `/suggest` is timed from the question to "
        "its answer, waiting in the queue included. The users run on the same cores as the page.",
        table(
            ["seconds", "times", "p50", "p95", "longest"],
            [
                times("upload", uploads),
                times("first suggestion of the server", [first]),
                times("suggestion, one user", one),
                times(f"suggestion, {FOUR} users at once", four),
                times("suggestion, one user while a refinement runs", beside),
            ],
        ),
        f"{crowd} users at once for {args.minutes:g} minutes, each asking anew as soon as "
        f"answered; every fourth also for refinements of 0.1 minutes, and every fourth for trainings of 0.2. "
        "Refused: the queue or the line of jobs was full, and said so.",
        table(
            ["asked for", "times", "answered", "refused", "errors", "p50, s", "p95, s"],
            outcomes(load),
        ),
        f"What the server keeps. A batch is a suggestion for an upload, one for an example and a "
        f"look at the page, by {crowd} users at once.",
        table(
            ["", *memory[0][1]],
            [[name, *(f"{value:,.0f}" for value in kept.values())] for name, kept in memory],
        ),
        required(
            [
                ("p50 of a suggestion, one user", percentile(one, 50), 3, " s", False),
                (
                    f"p95 of a suggestion, {FOUR} users at once",
                    percentile(four, 95),
                    8,
                    " s",
                    False,
                ),
                ("errors (HTTP 500 or an answer that is none)", len(wrong), 0, "", False),
                ("stack traces in the server's log", traces, 0, "", False),
                (
                    "suggestions answered beside a refinement",
                    sum(answer.outcome == "answered" for answer in beside),
                    calls,
                    "",
                    True,
                ),
                ("memory that an identical batch adds", third - second, GROWTH_MB, " MB", False),
                ("memory that the load adds", last - third, 2 * GROWTH_MB, " MB", False),
                ("end by SIGTERM", ended, 10, " s", False),
            ]
        ),
    ]
    if wrong:
        parts.append(
            "Errors: "
            + "; ".join(
                f"{count} x {text}"
                for text, count in Counter(
                    f"{answer.kind}: {answer.detail}" for answer in wrong
                ).most_common(5)
            )
            + "."
        )
    publish("web_load", "The web page under load", parts)


if __name__ == "__main__":
    run(main)
