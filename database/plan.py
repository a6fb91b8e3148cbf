"""The plan of a build: a TOML file with tasks, methods and protocols, and how to run them.

Everything that makes the rows is in the plan, and its hash is the build's key; the section ``run``
says how the work is done and may change from one run to the next.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from metad2a.errors import InputError
from metad2a.registry import suggest_name

SPREAD = "spread"
"""The method that takes architectures evenly spread over the parameter counts."""
PARENT = "parent"
"""The method that takes the whole pretrained network at 128 px, and at 224 px as the second."""
PAIRS = "pairs"
"""The method that takes pairs of a pretrained network and a recipe of fine-tuning."""
EXPECTED = "expected"
"""The method that takes the pairs of which the packaged model expects most on a task."""
PAIRED = (PAIRS, EXPECTED)
"""Methods that take networks with recipes, which are their protocols."""
CHOOSING = (SPREAD, PARENT, PAIRS, EXPECTED)
"""Methods that are no searches."""


@dataclass(frozen=True)
class MethodPlan:
    """Which architectures of a task are measured, and under which protocols.

    ``name`` is ``"spread"``, ``"parent"``, ``"pairs"``, ``"expected"`` or a search method with its
    wrappers; ``architectures`` how many of a task, ``protocols`` labellers (pairs, drawn or
    expected, bring their own).
    ``images``, ``channels``, ``cells`` and ``options`` are a
    search's (see :func:`search.search`); it is given no time, as no two runs would agree.
    ``resolution`` is a search's too, and of ``"spread"`` that of all networks, in spaces where that
    is a decision.
    """

    name: str
    architectures: int
    protocols: tuple[str, ...] = ()
    images: int | None = None
    channels: int | None = None
    cells: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    resolution: int | None = None


@dataclass(frozen=True)
class RunPlan:
    """How a build is run: no row depends on it, but for the last digits that threads make."""

    device: str = "cpu"
    workers: int = 1
    """Processes on this machine; on a cluster, as many as its share of CPUs and GPUs allows."""
    threads: int = 1
    """CPU threads of a worker."""
    cpus: float = 1.0
    """CPUs that a worker takes of a cluster."""
    gpus: float = 0.0
    """GPUs that a worker takes of a cluster."""
    wall_seconds: float = 3600.0
    """The longest that one job may take before it counts as hung."""
    lease_seconds: float = 60.0
    """How long a job belongs to a driver that is not heard of any more."""
    heartbeat_seconds: float = 15.0
    """How often a driver renews its leases."""


@dataclass(frozen=True)
class TaskPlan:
    """``count`` tasks, dealt out over the datasets ``only`` (all if empty) but ``exclude``."""

    count: int
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A build: its tasks and methods, and how it is run.

    ``data`` is a folder that holds one folder for each dataset, ``database`` a file or URL.
    """

    name: str
    tasks: TaskPlan
    methods: tuple[MethodPlan, ...]
    data: Path | None = None
    database: str | None = None
    space: str = "nasbench201"
    seed: int = 0
    run: RunPlan = field(default_factory=RunPlan)

    def rows(self) -> dict[str, Any]:
        """Return what makes the rows, as JSON; places and ``run`` do not."""
        made: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        for method in made["methods"]:
            if method["resolution"] is None:  # Builds that knew of none keep their key.
                del method["resolution"]
        return {key: made[key] for key in ("name", "space", "seed", "tasks", "methods")}

    @property
    def key(self) -> str:
        """SHA-256 (hex) of :meth:`rows`."""
        return hashlib.sha256(json.dumps(self.rows(), sort_keys=True).encode()).hexdigest()


def read_plan(path: Path | str) -> Plan:
    """Read a plan; relative places in it are meant from its own folder.

    Raises:
        InputError: it cannot be read, or a key is unknown, missing or out of range.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise InputError(
            f"The plan {str(path)!r} cannot be read: {error.strerror}. Give the path "
            "of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The plan {str(path)!r} is not TOML: {error}.") from error
    return parse_plan(table, path.stem, path.parent)


def parse_plan(table: Mapping[str, Any], name: str, folder: Path) -> Plan:
    """Check the tables of a plan called ``name`` unless it says otherwise; see ``read_plan``."""
    top = _record(Plan, {"name": name, **table}, "the plan")
    tasks = _record(TaskPlan, top.pop("tasks"), "[tasks]")
    run = RunPlan(**_record(RunPlan, top.pop("run", {}), "[run]"))
    methods = tuple(
        MethodPlan(**_record(MethodPlan, one, "[[methods]]")) for one in top.pop("methods")
    )
    if "data" in top:
        top["data"] = folder / Path(top["data"]).expanduser()
    if "database" in top and "://" not in top["database"]:
        top["database"] = str(folder / Path(top["database"]).expanduser())
    plan = Plan(**top, tasks=TaskPlan(**tasks), methods=methods, run=run)
    _check(plan)
    return plan


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str,),
    "Path | None": (str,),
    "int": (int,),
    "int | None": (int,),
    "float": (int, float),
    "tuple[str, ...]": (list, tuple),
    "dict[str, Any]": (dict,),
    "TaskPlan": (dict,),
    "RunPlan": (dict,),
    "tuple[MethodPlan, ...]": (list,),
}
"""Annotation of a field to what TOML may hold for it."""
_LEAST = {
    "count": 1,
    "architectures": 1,
    "images": 1,
    "channels": 1,
    "cells": 1,
    "resolution": 1,
    "workers": 1,
    "threads": 1,
    "cpus": 0,
    "gpus": 0,
    "seed": 0,
}


def _record(kind: type[Any], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values of ``table`` for the fields of ``kind``, checked."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} of the plan is {table!r}; it must be a table of keys.")
    known = {one.name: one for one in fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise InputError(f"{where} has no key {key!r}.{suggest_name(key, list(known))}")
        annotation = str(known[key].type)
        wanted = _TYPES[annotation]
        if not _is(value, wanted):
            raise InputError(
                f"{key} = {value!r} in {where} must be of type "
                f"{' or '.join(one.__name__ for one in wanted)}."
            )
        if annotation == "tuple[str, ...]" and not all(isinstance(one, str) for one in value):
            raise InputError(f"{key} = {value!r} in {where} must be a list of names.")
        if key in _LEAST and not _LEAST[key] <= value < 2**31:
            raise InputError(
                f"{key} = {value!r} in {where} must be {_LEAST[key]} or more, and "
                f"less than {2**31}."
            )
        if key.endswith("_seconds") and not 0 < value < math.inf:
            raise InputError(f"{key} = {value!r} in {where} must be above 0.")
        values[key] = tuple(dict.fromkeys(value)) if annotation == "tuple[str, ...]" else value
    missing = [
        key
        for key in ("tasks", "methods", "count", "name", "architectures")
        if key in known and key not in values
    ]
    if missing:
        raise InputError(f"{where} lacks {' and '.join(missing)}.")
    return values


def _is(value: Any, wanted: tuple[type, ...]) -> bool:
    return isinstance(value, wanted) and not isinstance(value, bool)


def _check(plan: Plan) -> None:
    """Refuse what no key alone shows."""
    if not plan.methods:
        raise InputError("The plan has no [[methods]]: nothing would be measured.")
    for method in plan.methods:
        if method.name not in CHOOSING:
            if method.images is None:
                raise InputError(
                    f"The method {method.name!r} lacks images, its budget of images "
                    "that pass through a network."
                )
            continue
        for key in ("images", "channels", "cells", "options"):
            if getattr(method, key):
                raise InputError(f"{key} is for searches; the method {method.name!r} takes none.")
        if method.resolution is not None and method.name != SPREAD:
            raise InputError(
                f"resolution is for searches and {SPREAD!r}; the method {method.name!r} takes none."
            )
        if method.name in PAIRED and method.protocols:
            raise InputError(
                f"protocols is for networks alone; each pair of the method "
                f"{method.name!r} has its own."
            )
        if method.name not in PAIRED and not method.protocols:
            raise InputError(
                f"The method {method.name!r} lacks protocols: nothing would be measured."
            )
    run = plan.run
    if run.lease_seconds < 2 * run.heartbeat_seconds:
        raise InputError(
            f"lease_seconds = {run.lease_seconds} must be at least twice "
            f"heartbeat_seconds = {run.heartbeat_seconds}: one may come late."
        )
