"""Processes that share a build: signals, failures, and one answer from all.

Nothing heavy is imported here: every process that is started imports this file.
"""

from __future__ import annotations

import os
import signal

import pytest

from metad2a.cli import _workers
from metad2a.errors import InputError, MetaD2AError


def test_the_first_signal_is_a_wish_and_the_second_an_exception():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), _workers.interruptible() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def _dies(arguments, share, pipe):
    os._exit(7)


def _refuses(arguments, share, pipe):
    if share[0]:
        pipe.send(InputError("no such thing"))
    else:
        pipe.recv()  # the other one's failure stops this one


def _answers(arguments, share, pipe):
    from database._worker import Summary

    pipe.send((1 + share[0], 5, "half way"))
    if arguments["wait"]:
        pipe.recv()
    pipe.send(Summary(tasks=1, evaluations=2, failures=[f"of {share}"], skipped={"x": "why"},
                      stopped=arguments["wait"] and share[0] == 1))


def build(monkeypatch, work, should_stop=lambda: False, progress=lambda *step: None, **arguments):
    monkeypatch.setattr(_workers, "_work", work)
    return _workers.build_shared(2, progress, should_stop, **arguments)


def test_a_worker_that_dies_ends_the_build(monkeypatch):
    with pytest.raises(MetaD2AError, match="ended with exit code 7 before"):
        build(monkeypatch, _dies)


def test_a_failure_of_one_stops_the_others_and_is_raised(monkeypatch):
    with pytest.raises(InputError, match="no such thing"):
        build(monkeypatch, _refuses)


def test_answers_and_progress_are_summed(monkeypatch):
    seen = []
    whole = build(monkeypatch, _answers, progress=lambda *step: seen.append(step), wait=False)
    assert (whole.tasks, whole.evaluations, whole.skipped) == (2, 4, {"x": "why"})
    assert sorted(whole.failures) == ["of (0, 2)", "of (1, 2)"]
    assert not whole.stopped
    assert seen[-1] == (3, 10, "half way")


def test_a_wish_to_stop_reaches_every_worker(monkeypatch):
    seen = []
    whole = build(monkeypatch, _answers, should_stop=lambda: len(seen) == 2,
                  progress=lambda *step: seen.append(step), wait=True)
    assert whole.stopped
    assert whole.tasks == 2
