"""Several processes that train one network (``torchrun``): who one is, and what all agree on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def begin(device: str) -> str:
    """Join the processes that ``torchrun`` started, if it did; return this one's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return device
    cuda = device != "cpu" and torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"


def rank() -> int:
    """Return this process's number; 0 writes and talks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agreed(value: Any) -> Any:
    """Return the first process's value in all: what depends on a clock must not differ."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def add_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum the gradients over all processes."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def end() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()
