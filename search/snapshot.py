"""What a checkpoint of a search holds, and how a run takes it over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from metad2a.errors import ArtifactError
from search.checkpoint import read_checkpoint, write_checkpoint
from search.composition import Composition
from search.method import Stateful
from search.run import Run
from search.tensors import load_momentum, momentum, under, with_prefix

_COUNTERS = (
    "phase",
    "steps",
    "images",
    "rate_scale",
    "batch_limit",
    "batch_fit",
    "bad_steps",
    "macro",
    "cursors",
    "history",
)


def save(run: Run, composed: Composition, path: Path, identity: dict[str, Any]) -> None:
    """Write the run's state, and that of its phase and wrappers.

    Raises:
        ArtifactError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {name: getattr(run, name) for name in _COUNTERS}
    facts |= {
        "spent": run.budget.elapsed,
        "mask": run.subspace.mask.tolist(),
        "supernet": run.has_supernet,
        "parts": {},
    }
    if run.has_supernet:
        facts["clones"] = run.supernet.clones
        for name, network in (("network", run.network), ("initial", run.initial)):
            tensors |= with_prefix(name, network.state_dict())
        tensors |= with_prefix("momentum", momentum(run.network, run.optimiser))
    for name, part in _parts(run, composed).items():
        tensors |= with_prefix(name, part.tensors())
        facts["parts"][name] = part.facts()
    write_checkpoint(path, tensors, identity, facts)


def load(
    run: Run,
    composed: Composition,
    path: Path,
    identity: dict[str, Any],
    enter: Callable[[int], None],
) -> None:
    """Make a fresh run go on where the checkpoint's stopped.

    Args:
        run: as it is before its first step.
        composed: its method and wrappers.
        path: the checkpoint.
        identity: of this run.
        enter: begins the phase of a number.

    Raises:
        InputError: the checkpoint belongs to another run.
        ArtifactError: it is damaged, of another format, or does not fit.
    """
    tensors, facts = read_checkpoint(path, identity)
    try:
        enter(int(facts["phase"]))
        for name in _COUNTERS:
            setattr(run, name, facts[name])
        run.budget.spent = float(facts["spent"])
        run.subspace.mask = np.array(facts["mask"], dtype=bool)
        if facts["supernet"]:
            run.renew(**run.macro)
            for slot, operation, by in facts["clones"]:
                run.clone(slot, operation, by)
            run.network.load_state_dict(under("network", tensors))
            run.initial.load_state_dict(under("initial", tensors))
            load_momentum(run.network, run.optimiser, under("momentum", tensors))
        for name, part in _parts(run, composed).items():
            part.restore(under(name, tensors), facts["parts"][name])
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise ArtifactError(
            f"Checkpoint {path} does not fit this search: "
            f"{type(error).__name__}: {error}. Delete it to start afresh."
        ) from error


def _parts(run: Run, composed: Composition) -> dict[str, Stateful]:
    """Return whatever has a state of its own: the present phase and all wrappers."""
    phase = composed.stages()[run.phase].phase
    wrappers = {f"wrapper{i}": cast(Stateful, w) for i, w in enumerate(composed.wrappers)}
    return {"phase": phase, **wrappers}
