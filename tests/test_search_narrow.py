"""Narrow networks on processors whose kernels of oneDNN cannot do them."""

import os

import pytest
import torch
from searching import task

from metad2a._onednn import spare_narrow
from search.searching import Search

NAME = "ONEDNN_MAX_CPU_ISA"


@pytest.mark.parametrize(
    ("capability", "channels", "before", "after"),
    [
        ("AVX2", 2, None, "AVX"),
        ("AVX2", 8, None, None),
        ("AVX2", 2, "AVX2", "AVX2"),
        ("AVX512", 2, None, None),
        ("DEFAULT", 2, None, None),
    ],
)
def test_they_are_computed_by_plain_avx(capability, channels, before, after, monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    spare_narrow(channels)
    assert os.environ.get(NAME) == after


def test_a_search_sees_to_it_before_its_first_network(monkeypatch):
    asked = []

    def noted(channels):
        asked.append(channels)
        raise KeyboardInterrupt

    monkeypatch.setattr("search.searching.spare_narrow", noted)
    with pytest.raises(KeyboardInterrupt):
        Search(task(count=8), "darts", "random", images=1, channels=3, cells=1).conduct()
    assert asked == [3]
