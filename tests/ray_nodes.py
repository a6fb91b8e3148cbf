"""A real Ray cluster of three nodes on this machine, and the processes that measure on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from building import until

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

HERE = Path(__file__).parent
CPUS = 2  # of each node but the first
STORE = 80 * 2**20  # bytes, near the least that Ray allows


class Nodes:
    """A cluster, and its two nodes that work."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        # As on every node of a real cluster, the workers must find the modules of the labellers.
        self._patch = pytest.MonkeyPatch()
        self._patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (HERE, HERE.parent))))
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "num_gpus": 0,
                "object_store_memory": STORE,
                "include_dashboard": False,
                "_system_config": {
                    "health_check_initial_delay_ms": 1000,
                    "health_check_period_ms": 1000,
                    "health_check_failure_threshold": 5,
                },
            },
        )
        self.working = []
        self.mend()

    @property
    def address(self):
        return self.cluster.address

    def close(self):
        logs = Path(self.cluster.head_node.get_session_dir_path())
        self.cluster.shutdown()
        self._patch.undo()

        def is_gone():  # processes that are about to end may still write to it
            shutil.rmtree(logs, ignore_errors=True)
            return not logs.exists()

        until(is_gone, "the end of the cluster")

    def mend(self):
        """Add the nodes that are missing."""
        while len(self.working) < 2:
            self.working.append(
                self.cluster.add_node(
                    num_cpus=CPUS, num_gpus=1, object_store_memory=STORE, wait=False
                )
            )
        self.cluster.wait_for_nodes()

    def kill(self):
        """Kill one node, as a power cut would; return the processes that worked on it."""
        node = self.working.pop()
        number = node.all_processes["raylet"][0].process.pid
        workers = [pid for pid in processes() if parent(pid) == number]
        self.cluster.remove_node(node, allow_graceful=False)
        until(lambda: not any(map(is_running, workers)), "the end of the node's workers")
        return workers


def processes():
    return [int(one.name) for one in Path("/proc").glob("[0-9]*")]


def stat(pid):
    """Return the state and the parent of a process; nobody collects those of a dead node."""
    try:
        state, above = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state, int(above)


def parent(pid):
    return stat(pid)[1]


def is_running(pid):
    return stat(pid)[0] not in "XZ"


def measuring(seen):
    """Return the process of each job that was begun."""
    return [int(one.name.partition("-")[0]) for one in seen.iterdir()]
