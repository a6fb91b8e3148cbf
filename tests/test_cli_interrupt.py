"""A Ctrl-C that is first a wish, then an exception."""

from __future__ import annotations

import signal

import pytest

from metad2a.cli._interrupt import interruptible


def test_the_first_signal_is_a_wish_and_the_second_an_exception():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible() as should_stop:
        assert not should_stop()
        signal.raise_signal(signal.SIGTERM)
        assert should_stop()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
