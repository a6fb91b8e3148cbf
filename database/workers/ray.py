"""Workers on a Ray cluster: pure functions with a share of CPUs and GPUs, on any node.

A task's images are read once by the driver and put into Ray's object store, from where each node
fetches them once. Ray repeats nothing by itself: tries are counted in the database.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from database.plan import RunPlan
from database.workers.base import Ended, Work, Workers, perform
from metad2a.errors import InputError, MetaD2AError

if TYPE_CHECKING:
    from database.tasks import Task
    from search.data import TaskImages

_KEPT_TASKS = 8
"""Tasks whose images stay in the object store; the jobs of one come one after the other."""
_AT_ONCE = 64
"""Most workers that are offered at a time: a driver that sends thousands of jobs, and decodes the
images for them, must renew its leases in between."""
_CONNECT_SECONDS = 5.0
_log = logging.getLogger(__name__)


class ClusterWorkers(Workers):
    """As many workers as the cluster's CPUs and GPUs allow, now or later: nodes may come and go."""

    def __init__(self, address: str, run: RunPlan, load: Callable[[Task], TaskImages]) -> None:
        """Join the cluster; this machine must be one of its nodes, if with no share of the work.

        Args:
            address: ``host:port``, or ``auto`` for the one that this machine is a node of.
            run: gives each worker's share, ``cpus`` and ``gpus``.
            load: finds the images of a task.

        Raises:
            InputError: Ray is not installed, there is no such cluster, or no node of it can take a
                worker's share.
        """
        # Read when Ray is imported: it would try twenty times 40 seconds where a service of
        # another kind answers.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise InputError(
                "A build on a cluster needs Ray, which is not installed. Run: "
                "pip install 'metad2a[ray]'."
            ) from error
        self._ray = ray
        self._share = {
            kind: share for kind, share in (("CPU", run.cpus), ("GPU", run.gpus)) if share
        }
        _check_share(run)
        self._join(address)
        # A process keeps the GPU that it first used, whatever Ray gives it next, and one that lost
        # its GPU fails for ever: on GPUs each job has a process of its own.
        self._perform = ray.remote(
            num_cpus=run.cpus,
            num_gpus=run.gpus,
            max_retries=0,
            max_calls=1 if run.gpus else 0,
        )(perform)
        self._load = load
        self._images: OrderedDict[str, Any] = OrderedDict()
        self._running: dict[Any, int] = {}
        self._empty = False
        if not self._room():
            nodes = [one["Resources"] for one in ray.nodes() if one["Alive"]]
            ray.shutdown()
            most = {kind: max(there.get(kind, 0) for there in nodes) for kind in ("CPU", "GPU")}
            raise InputError(
                f"No node of the Ray cluster at {address!r} can take a worker with cpus = "
                f"{run.cpus:g} and gpus = {run.gpus:g}: the largest have {most['CPU']:g} CPUs and "
                f"{most['GPU']:g} GPUs. Lower them in [run], or add a node."
            )

    def _join(self, address: str) -> None:
        if self._ray.is_initialized():
            raise InputError(
                "This process has joined a Ray cluster already. Leave it with ray.shutdown() first."
            )
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS") or address
        if address != "auto":
            _check_address(address)
        try:
            with _own_signals():
                self._ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError, self._ray.exceptions.RayError) as error:
            raise InputError(
                f"The Ray cluster at {address!r} cannot be joined: {error} Start one with `ray "
                "start --head`, make this machine a node of it with `ray start --address "
                "HOST:PORT`, or leave --ray out."
            ) from error

    def _room(self) -> int:
        """Return how many workers all nodes that are there can take, each as many as fit on it."""
        # The small number is for shares such as 0.1, three of which are less than 0.3.
        return sum(
            int(
                min(one["Resources"].get(kind, 0) / share for kind, share in self._share.items())
                + 1e-6
            )
            for one in self._ray.nodes()
            if one["Alive"]
        )

    def free(self) -> int:
        """Return how many more workers the nodes that are there can take, 64 at most."""
        room = self._room()
        if not room and not self._empty:
            _log.warning(
                "The Ray cluster has no node left that can take a worker; the build waits for one."
            )
        self._empty = not room
        return max(0, min(room - len(self._running), _AT_ONCE))

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
            return Ended(number, error=_told(error.cause))
        except (
            errors.NodeDiedError,
            errors.LocalRayletDiedError,  # the machine went away
            errors.ObjectLostError,  # with a result that was ready, or images on their way
            errors.TaskUnschedulableError,
            errors.RuntimeEnvSetupError,  # it was never begun
            errors.RpcError,
        ) as error:
            return Ended(number, error=_told(error), lost=True)
        except errors.RayError as error:  # the process died, or was killed for want of memory
            return Ended(number, error=_told(error))

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


def _check_share(run: RunPlan) -> None:
    """Refuse what Ray would refuse for every job, or what would have every job fail."""
    if not run.cpus and not run.gpus:
        raise InputError(
            "cpus = 0 and gpus = 0 in [run]: a worker must take a share of the "
            "cluster. Raise one of them."
        )
    for name, share in (("cpus", run.cpus), ("gpus", run.gpus)):
        if share > 1 and share % 1:
            raise InputError(
                f"{name} = {share:g} in [run]: a share above 1 must be a whole number."
            )
    if run.device.startswith("cuda") and not run.gpus:
        raise InputError(
            f"device = {run.device!r} and gpus = 0 in [run]: Ray hides the GPUs from "
            "workers that take none. Give gpus, which may be a part of one: 0.25."
        )


def _check_address(address: str) -> None:
    """Refuse what nobody listens at: Ray itself would go on trying for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(
            f"{address!r} is no address of a Ray cluster. Give HOST:PORT, as `ray "
            "start` prints it, or auto, on a machine that is one of its nodes."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Nothing answers at {address!r}, where a Ray cluster should be: {error}. "
            "Start one with `ray start --head`, or leave --ray out."
        ) from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(error: Exception) -> str:
    """Return what to say of an error: of Ray's own, a traceback follows the first line."""
    text = str(error).strip()
    if type(error).__module__.startswith("ray."):
        text = text.partition("\n")[0]
    if isinstance(error, MetaD2AError):
        return text
    return f"{type(error).__name__}: {text}"
