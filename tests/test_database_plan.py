"""Plans: what they may say, what is refused with which remedy, and what makes their key."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from building import ROOT, make_plan, spread, table, write_plan

from database.jobs.outstanding import Outstanding
from database.plan import MethodPlan, RunPlan, TaskPlan, parse_plan, read_plan
from database.store import Store
from metad2a.errors import InputError
from metad2a.spaces import SPACES

SEARCH = {"name": "random", "architectures": 3, "images": 300}


def test_a_plan_is_read_with_its_defaults_and_places_from_its_own_folder(tmp_path):
    path = tmp_path / "night.toml"
    path.write_text(
        """
data = "images"
database = "store.sqlite"
seed = 7
[tasks]
count = 5
exclude = ["a", "b", "a"]
[[methods]]
name = "spread"
architectures = 8
protocols = ["standalone", "training_free", "standalone"]
[[methods]]
name = "dropnas+curriculum"
architectures = 3
images = 1000
cells = 1
options = {"dropnas.rate" = 1e-5}
[run]
workers = 2
wall_seconds = 60
""",
        encoding="utf-8",
    )
    plan = read_plan(path)
    assert (plan.name, plan.space, plan.seed) == ("night", "nasbench201", 7)
    assert (plan.data, plan.database) == (tmp_path / "images", str(tmp_path / "store.sqlite"))
    assert plan.tasks == TaskPlan(5, (), ("a", "b"))
    assert plan.methods == (
        MethodPlan("spread", 8, ("standalone", "training_free")),
        MethodPlan("dropnas+curriculum", 3, (), 1000, None, 1, {"dropnas.rate": 1e-5}),
    )
    assert plan.run == RunPlan(workers=2, wall_seconds=60)


@pytest.mark.parametrize("place", ["postgresql+psycopg://me@host/store", "/far/away.sqlite"])
def test_urls_and_absolute_places_are_left_as_they_are(tmp_path, place):
    path = write_plan(tmp_path / "plan.toml", spread("standalone"), database=place, data="/far")
    assert (read_plan(path).database, read_plan(path).data) == (place, Path("/far"))


def test_the_key_is_of_what_makes_the_rows_alone():
    plan = make_plan(spread("standalone"))
    same = [
        make_plan(spread("standalone"), workers=8, wall_seconds=9, device="cuda"),
        make_plan(spread("standalone"), data="elsewhere", database="other.sqlite"),
    ]
    other = [
        replace(plan, name="other"),
        replace(plan, seed=1),
        replace(plan, space="darts"),
        make_plan(spread("standalone"), tasks=3),
        make_plan(spread("training_free")),
        make_plan(spread("standalone", architectures=3)),
        make_plan(SEARCH),
        make_plan(SEARCH | {"options": {"x.y": 1}}),
    ]
    assert {one.key for one in same} == {plan.key}
    assert len({one.key for one in [plan, *other]}) == 1 + len(other)


TOP = table(spread("standalone"))


def changed(part, **change):
    """Return the tables of a good plan but for a change in one of them."""
    if part == "methods":
        return TOP | {"methods": [TOP["methods"][0] | change]}
    return TOP | (change if part == "top" else {part: TOP[part] | change})


BAD = {
    "unknown key": (changed("top", sead=1), r"the plan has no key 'sead'.*Did you mean 'seed'"),
    "unknown key of tasks": (changed("tasks", onyl=["a"]), r"\[tasks\].*Did you mean 'only'"),
    "unknown key of a method": (
        changed("methods", protocol=["a"]),
        r"\[\[methods\]\].*Did you mean 'protocols'",
    ),
    "unknown key of run": (changed("run", worker=1), r"\[run\].*Did you mean 'workers'"),
    "text for a number": (changed("top", seed="1"), r"seed = '1' in the plan.*of type int"),
    "truth for a number": (changed("top", seed=True), "of type int"),
    "fraction for a count": (changed("run", workers=1.5), r"workers = 1.5 in \[run\].*type int"),
    "text for a list": (changed("tasks", only="first"), "of type list"),
    "list of numbers": (changed("methods", protocols=[1]), "must be a list of names"),
    "number for a place": (changed("top", data=1), "of type str"),
    "number for a table": (changed("top", tasks=1), "of type dict"),
    "table for a list of tables": (changed("top", methods={"name": "spread"}), "of type list"),
    "number for a method": (changed("top", methods=[1]), "must be a table of keys"),
    "no tables": ({}, "the plan lacks tasks and methods"),
    "no count": (changed("top", tasks={}), r"\[tasks\] lacks count"),
    "no architectures": (
        changed("top", methods=[{"name": "spread"}]),
        r"\[\[methods\]\] lacks architectures",
    ),
    "no name of a method": (
        changed("top", methods=[{"architectures": 1}]),
        r"\[\[methods\]\] lacks name",
    ),
    "no methods": (changed("top", methods=[]), r"no \[\[methods\]\]"),
    "no tasks": (changed("tasks", count=0), "count = 0.*must be 1 or more"),
    "too many": (changed("methods", architectures=2**31), "less than 2147483648"),
    "seed below zero": (changed("top", seed=-1), "seed = -1.*must be 0 or more"),
    "no time": (changed("run", wall_seconds=0), "wall_seconds = 0.*above 0"),
    "endless": (changed("run", lease_seconds=float("inf")), "lease_seconds = inf.*above 0"),
    "no number": (changed("run", cpus=float("nan")), "cpus = nan"),
    "lease too short": (changed("run", lease_seconds=29, heartbeat_seconds=15), "at least twice"),
    "spread without protocols": (changed("methods", protocols=[]), "lacks protocols"),
    "spread with images": (changed("methods", images=100), "images is for searches"),
    "search without images": (changed("methods", name="dropnas"), "'dropnas' lacks images"),
}


@pytest.mark.parametrize(("tables", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_plan_is_refused_with_the_key(tables, message):
    with pytest.raises(InputError, match=message):
        parse_plan(tables, "a plan", Path())


UNKNOWN = {
    "protocol": (spread("standalon"), "Did you mean 'standalone'"),
    "method": (SEARCH | {"name": "dropnass"}, "Did you mean 'dropnas'"),
    "wrapper": (SEARCH | {"name": "dropnas+curiculum"}, "Did you mean 'curriculum'"),
    "option": (SEARCH | {"name": "dropnas", "options": {"dropnas.rat": 1}}, "Did you mean 'rate'"),
    "value of an option": (
        SEARCH | {"name": "dropnas", "options": {"dropnas.rate": "much"}},
        "dropnas.rate",
    ),
}


@pytest.mark.parametrize(("method", "message"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_name_is_refused_before_anything_is_measured(tmp_path, method, message):
    with Store(tmp_path / "store.sqlite") as store, pytest.raises(InputError, match=message):
        Outstanding(make_plan(method), store, SPACES.get("nasbench201"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"tasks = = 1", "is not TOML"),
        (b"\xff", "not TOML"),
    ],
    ids=["missing", "not TOML", "not text"],
)
def test_a_plan_that_cannot_be_read_is_explained(tmp_path, content, message):
    path = tmp_path / "plan.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_plan(path)


@pytest.mark.parametrize("path", sorted((ROOT / "plans").glob("*.toml")), ids=lambda p: p.stem)
def test_the_plans_of_the_project_are_good(path, tmp_path):
    plan = read_plan(path)
    with Store(tmp_path / "store.sqlite") as store:
        assert Outstanding(plan, store, SPACES.get(plan.space)).labellers


def test_reading_plans_and_stores_needs_no_torch():
    """What says how far a build is should not take seconds to start."""
    script = (
        "import sys, database, database.jobs.driver, database.workers.local, search.labellers.base\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        check=True,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.stdout == "False\n"
