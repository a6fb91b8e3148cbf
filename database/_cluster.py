"""Workers on a Ray cluster: pure functions with a share of CPUs and GPUs, on any node.

A task's images are decoded once by the driver and put into Ray's object store, from where each node
fetches them once. Ray repeats nothing by itself: tries are counted in the database.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from database.plan import RunPlan
from database.work import Ended, Work, Workers, perform
from metad2a.errors import InputError

if TYPE_CHECKING:
    from database.tasks import Task
    from search.data import TaskData

_KEPT_TASKS = 8
"""Tasks whose images stay in the object store; the jobs of one come one after the other."""


class ClusterWorkers(Workers):
    """As many workers as the cluster's CPUs and GPUs allow, now or later: nodes may come and go."""

    def __init__(self, address: str, run: RunPlan, load: Callable[[Task], TaskData]) -> None:
        """Join the cluster.

        Args:
            address: ``host:port``, ``ray://host:port`` or ``auto``.
            run: gives each worker's share, ``cpus`` and ``gpus``.
            load: decodes the images of a task.

        Raises:
            InputError: Ray is not installed, or there is no cluster.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            raise InputError("A build on a cluster needs Ray, which is not installed. Run: "
                             "pip install 'metad2a[ray]'.") from error
        if not run.cpus and not run.gpus:
            raise InputError("cpus = 0 and gpus = 0 in [run]: a worker must take a share of the "
                             "cluster. Raise one of them.")
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"There is no Ray cluster at {address!r}: {error}. Start one with "
                             "`ray start --head`, or leave --ray out.") from error
        self._ray = ray
        self._share = {"CPU": run.cpus, "GPU": run.gpus}
        self._perform = ray.remote(perform).options(
            num_cpus=run.cpus, num_gpus=run.gpus, max_retries=0)
        self._load = load
        self._images: OrderedDict[str, Any] = OrderedDict()
        self._running: dict[Any, int] = {}

    def free(self) -> int:
        """Return how many more workers the nodes that are there can take."""
        there = self._ray.cluster_resources()
        fit = min(int(there.get(kind, 0) / share) for kind, share in self._share.items() if share)
        return max(0, fit - len(self._running))

    def start(self, number: int, work: Work, task: Task) -> None:
        """Send the work into the cluster."""
        if task.key not in self._images:
            while len(self._images) >= _KEPT_TASKS:
                self._images.popitem(last=False)  # jobs in flight keep theirs alive
            self._images[task.key] = self._ray.put(self._load(task))
        self._images.move_to_end(task.key)
        self._running[self._perform.remote(work, self._images[task.key])] = number

    def wait(self, seconds: float) -> list[Ended]:
        """Collect results, and tell a node that went away from a job that failed."""
        if not self._running:
            return []
        ready, rest = self._ray.wait(list(self._running), timeout=seconds)
        if ready and rest:
            ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [self._ended(one) for one in ready]

    def _ended(self, reference: Any) -> Ended:
        number = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            return Ended(number, self._ray.get(reference))
        except errors.RayTaskError as error:
            return Ended(number, error=f"{type(error.cause).__name__}: {error.cause}")
        except (errors.NodeDiedError, errors.ObjectLostError, errors.RuntimeEnvSetupError) as error:
            return Ended(number, error=str(error), lost=True)
        except errors.RayError as error:
            return Ended(number, error=f"{type(error).__name__}: {error}")

    def stop(self, number: int) -> None:
        """Kill the process that has the job in hand."""
        for reference in [one for one, job in self._running.items() if job == number]:
            del self._running[reference]
            self._ray.cancel(reference, force=True)

    def close(self) -> None:
        """Kill what runs and leave the cluster."""
        for number in list(self._running.values()):
            self.stop(number)
        self._images.clear()
        self._ray.shutdown()
