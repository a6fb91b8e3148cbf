"""Copies of networks: the same as what they are copied from, and apart from it."""

import copy

import torch
from torch import nn

from metad2a.spaces import SPACES
from metad2a.training.device import plan
from search.engine.copying import copied


def test_a_copy_is_what_deepcopy_makes_and_shares_nothing_that_changes():
    network = plan().place(SPACES.get("nasbench201").supernet(3, channels=2, cells=1))
    network.clone(1, 3, 0)
    network.requires_grad_(False)
    found, expected = copied(network), copy.deepcopy(network)
    for own, plain, first in zip(
        found.modules(), expected.modules(), network.modules(), strict=True
    ):
        assert type(own) is type(plain)
        assert vars(own).keys() == vars(plain).keys()
        for name, value in vars(own).items():
            assert type(value) is type(vars(plain)[name])
            if isinstance(value, dict | list | set):
                assert value is not vars(first)[name]
                assert len(value) == len(vars(plain)[name])
    tensors = zip(found.state_dict().items(), network.state_dict().items(), strict=True)
    for (name, value), (other, given) in tensors:
        assert name == other
        assert torch.equal(value, given) and value.stride() == given.stride()
        assert value.data_ptr() != given.data_ptr()
    assert not any(p.requires_grad for p in found.parameters())
    assert found.clones == network.clones and found.clones is not network.clones


def test_what_is_there_twice_is_copied_once_and_hooks_go_along():
    shared, calls = nn.Linear(2, 2), []
    network = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.ReLU())})
    shared.register_forward_hook(lambda *_: calls.append("kept"))
    found = copied(network)
    assert found["a"] is found["b"][0] is not shared
    found["b"].register_forward_hook(lambda *_: calls.append("new"))
    network["b"](torch.ones(1, 2))
    assert calls == ["kept"]
    found["b"](torch.ones(1, 2))
    assert calls == ["kept", "kept", "new"]
