"""The official interfaces of NATS-Bench and NAS-Bench-201, as objects that the caller has made.

Their files are pickles, which this program never opens: whoever trusts one opens it with its own
package and hands the object over. Source: Dong et al., "NATS-Bench: Benchmarking NAS Algorithms
for Architecture Topology and Size", TPAMI 2021; its topology space is that of NAS-Bench-201.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from database.exchange.rows import Row
from database.importers._published import (
    CIFAR10,
    CIFAR100,
    IMAGENET16,
    PublishedDataset,
    PublishedProtocol,
)
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError

_EPOCHS = (12, 200)
_METHODS = ("arch", "get_more_info", "__len__")
_VAL = {"valid-accuracy": ("val", "trained on the train half of CIFAR-10, accuracy on the other")}
_TEST = {
    "test-accuracy": (
        "test",
        "trained on both halves of CIFAR-10's training images, accuracy on its test images",
    )
}
_REST = {
    "valid-accuracy": (
        "xval",
        "trained on all training images, accuracy on the half of the test "
        "images that is for validation",
    ),
    "test-accuracy": (
        "xtest",
        "trained on all training images, accuracy on the half of the test "
        "images that is for the test",
    ),
}
_SPLITS: Mapping[str, tuple[PublishedDataset, Mapping[str, tuple[str, str]]]] = {
    "cifar10-valid": (CIFAR10, _VAL),
    "cifar10": (CIFAR10, _TEST),
    "cifar100": (CIFAR100, _REST),
    "ImageNet16-120": (IMAGENET16, _REST),
}
"""The interface's name of a split to its dataset and, by the keys of an answer, our name and what
it means."""


class BenchmarkApi(Importer):
    """Asks an interface for the accuracies of all its cells."""

    def __init__(self, origin: Origin, recipe: str) -> None:
        self.origin = origin
        self._recipe = recipe
        self.wants = (
            f"the object that {recipe} returns, in Python: database.importers."
            f"import_published(store, {origin.name!r}, api)",
        )

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return the tasks that stand for the datasets, and an evaluation a cell and split."""
        (api,) = given
        if missing := [name for name in _METHODS if not hasattr(api, name)]:
            raise InputError(
                f"{str(api)[:100]!r} is not the interface of the benchmark: it lacks "
                f"{', '.join(missing)}. The benchmark's files are pickles, which this program "
                f"does not open; give, in Python, what {self._recipe} returns."
            )
        tasks = {dataset.name: dataset.task() for dataset, _ in _SPLITS.values()}
        return {"tasks": tasks.values(), "evaluations": self._evaluations(api, tasks)}

    def _evaluations(self, api: Any, tasks: Mapping[str, Row]) -> Iterator[Row]:
        for index in range(len(api)):
            for epochs in _EPOCHS:
                for asked, (dataset, keys) in _SPLITS.items():
                    info = api.get_more_info(index, asked, hp=str(epochs), is_random=False)
                    for key in keys.keys() & info.keys():
                        yield self._protocol(*keys[key], epochs).evaluation(
                            self.origin,
                            tasks[dataset.name],
                            api.arch(index),
                            index,
                            info[key],
                            seconds=info.get("train-all-time") or 0.0,
                        )

    def _protocol(self, name: str, words: str, epochs: int) -> PublishedProtocol:
        return PublishedProtocol(
            f"{self.origin.name}-{name}{epochs}",
            f"{epochs} epochs, {words}. Mean over the "
            "benchmark's seeds; the seed here is the cell's official index.",
        )


for _importer in (
    BenchmarkApi(
        Origin("nats-bench", "MIT", "https://github.com/D-X-Y/NATS-Bench", 2020),
        "nats_bench.create(folder, 'tss', fast_mode=True, verbose=False)",
    ),
    BenchmarkApi(
        Origin("nasbench201-api", "MIT", "https://github.com/D-X-Y/NAS-Bench-201", 2020),
        "nas_201_api.NASBench201API(file, verbose=False)",
    ),
):
    IMPORTERS.register(_importer.origin.name)(_importer)
