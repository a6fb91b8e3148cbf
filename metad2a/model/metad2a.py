"""MetaD2A: the trained model as one object. Load, predict, generate, save."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.datasets import ImageDataset
from metad2a.errors import InputError
from metad2a.model.artifact import Artifact, check_tensors, load_artifact, save_artifact
from metad2a.model.config import check_config
from metad2a.model.description import Description, describe
from metad2a.model.generator import Generator, generate
from metad2a.model.hub import push, resolve
from metad2a.model.known import KnownDataset
from metad2a.model.known_file import read_known, write_known
from metad2a.model.predictor import (
    CLASSES,
    HALF_WIDTH,
    Predictor,
    PredictorConfig,
    prior_inputs,
    standardise_limits,
)
from metad2a.model.results import Seen
from metad2a.spaces import SPACES, Architecture, SearchSpace

_PART = 800


@dataclass(frozen=True)
class Prediction:
    """Accuracies in percent, float64 (n,) each, in the order of the architectures asked about.

    ``low`` and ``high`` bound the 90 % interval; ``std`` is half its width over 1.645.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


class MetaD2A:
    """Set encoder, generator and predictor, meta-trained for one search space."""

    def __init__(
        self,
        space: SearchSpace,
        protocol: str,
        predictor: Predictor,
        generator: Generator,
        card: str = "",
        golden: dict[str, Any] | None = None,
        learnt_from: Sequence[KnownDataset] = (),
    ) -> None:
        self.space, self.protocol = space, protocol
        self.predictor, self.generator = predictor.eval(), generator.eval()
        self.card, self.golden = card, golden or {}
        self.learnt_from = tuple(learnt_from)
        # Replaced whole and never changed, so that threads can share a model.
        self._known: tuple[dict[Architecture, int], list[tuple[Tensor, Tensor]]] = ({}, [])

    @classmethod
    def from_pretrained(cls, model: str | Path | None = None) -> MetaD2A:
        """Load a model.

        Args:
            model: a folder, ``"org/name"`` or ``"org/name@revision"`` on the Hugging Face Hub, or
                None for the model inside the package.

        Raises:
            ArtifactError: it cannot be found, or is not a model of this version.
        """
        folder = resolve(model)
        artifact = load_artifact(folder)
        config = check_config(artifact.config)
        space = SPACES.get(artifact.config["space"])
        with torch.device("meta"):
            parts = _parts(space, config)
        check_tensors(parts.state_dict(), artifact.tensors)
        parts.load_state_dict(artifact.tensors, strict=True, assign=True)
        return cls(
            space,
            artifact.config["protocol"],
            parts["predictor"],  # type: ignore[arg-type]
            parts["generator"],  # type: ignore[arg-type]
            artifact.card,
            artifact.golden,
            read_known(folder, space, config.members * config.embedding),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model folder: config, weights, card, golden answers, what it learnt from."""
        config = {
            "space": self.space.name,
            "protocol": self.protocol,
            "predictor": dataclasses.asdict(self.predictor.config),
        }
        tensors = torch.nn.ModuleDict(
            {"predictor": self.predictor, "generator": self.generator}
        ).state_dict()
        save_artifact(
            folder,
            Artifact(
                config, {name: t.clone() for name, t in tensors.items()}, self.card, self.golden
            ),
        )
        write_known(folder, self.learnt_from)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        revision: str | None = None,
        message: str = "Upload a MetaD2A model",
    ) -> str:
        """Share the model on the Hugging Face Hub, in one commit.

        Args:
            repo_id: ``"org/name"``; made if it is missing.
            private: whether a repository that is made can be seen by its owners alone.
            token: who pushes; None for ``HF_TOKEN`` or the login that is kept.
            revision: branch, made if it is missing; None for the main one.
            message: of the commit.

        Returns:
            ``"org/name@commit"``, which loads just this model for as long as it is there.

        Raises:
            InputError: the id, the branch, the token or the message is malformed.
            ArtifactError: the Hub refuses, or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push(
                folder, repo_id, private=private, token=token, revision=revision, message=message
            )

    def predict(
        self, dataset: ImageDataset, architectures: Sequence[str | Architecture], seed: int = 0
    ) -> Prediction:
        """Predict the test accuracy of architectures on a dataset, in the order given.

        Args:
            dataset: see :func:`metad2a.load_dataset`; encoded once.
            architectures: official strings, or tuples of operation indices.
            seed: of the image sample.

        Raises:
            InputError: an architecture is not of the model's space, or the dataset is unfit.
        """
        cells = self.space.as_array(architectures)
        description, _ = describe(dataset, seed)
        return self.predict_described(description, cells)

    def predict_described(self, description: Description, cells: np.ndarray) -> Prediction:
        """Predict for int (n, slots) architectures on a dataset already described."""
        if not len(cells):
            return Prediction(*(np.empty(0) for _ in range(4)))
        embeddings = self.predictor.embed([description])
        mean, deviation = (
            x[0].double().numpy() for x in self.predictor(embeddings, self._prior(cells))
        )
        low, middle, high = (
            100 / (1 + np.exp(-(mean + side * HALF_WIDTH * deviation))) for side in (-1, 0, 1)
        )
        return Prediction(middle, (high - low) / (2 * HALF_WIDTH), low, high)

    def seen(self, description: Description, cells: np.ndarray) -> Seen:
        """Return what the predictor sees in int (n, slots) architectures on a dataset."""
        priors = self._prior(cells)
        return Seen(
            self.predict_described(description, cells).mean,
            torch.stack([quality for _, quality in priors]).mean(0).double().numpy(),
            torch.cat([hidden for hidden, _ in priors], dim=1).double().numpy(),
        )

    def generate(
        self,
        dataset: ImageDataset,
        n: int,
        seed: int = 0,
        max_params: int | None = None,
        max_macs: int | None = None,
    ) -> list[str]:
        """Generate distinct architectures for a dataset, as official strings.

        Args:
            dataset: see :func:`metad2a.load_dataset`.
            n: how many; fewer come back when fewer obey the limits.
            seed: of the image sample and of the drawing.
            max_params: most trainable parameters, counted for the dataset's classes.
            max_macs: most multiply-adds of one image at the space's resolution.

        Raises:
            BudgetError: a limit is below the smallest network; names the smallest feasible value.
            InputError: ``n`` is not positive, or the dataset is unfit.
        """
        description, _ = describe(dataset, seed)
        cells = self.generate_described(
            description, n, seed, len(dataset.classes), max_params, max_macs
        )
        return [self.space.format(tuple(cell)) for cell in cells.tolist()]

    def generate_described(
        self,
        description: Description,
        n: int,
        seed: int,
        classes: int,
        max_params: int | None = None,
        max_macs: int | None = None,
    ) -> np.ndarray:
        """Generate int (m, slots) architectures, m <= n, for a dataset already described."""
        if n < 1:
            raise InputError(f"n={n} architectures cannot be generated; ask for 1 or more.")
        self.space.check_limits(classes, max_params, max_macs)
        embedding = torch.cat(self.predictor.embed([description]), dim=1)
        # The model thinks in networks of CLASSES classes; the limit is moved by what the head adds
        # to the smallest network, which is what it adds to any in a space of cells.
        head = self.space.smallest(classes).params - self.space.smallest(CLASSES).params
        limits = torch.tensor(
            [
                [
                    np.inf if max_params is None else max(1, max_params - head),
                    np.inf if max_macs is None else max_macs,
                ]
            ],
            dtype=torch.float64,
        )
        with torch.no_grad():
            context = self.generator.enter(embedding, standardise_limits(self.predictor, limits))
        return generate(self.generator, self.space, context, n, seed, classes, max_params, max_macs)

    def _prior(self, cells: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """Return the priors of int (n, slots) architectures, working out only new ones."""
        wanted = [self.space.canonical(tuple(cell)) for cell in cells.tolist()]
        place, priors = self._known
        new = [one for one in dict.fromkeys(wanted) if one not in place]
        if new:
            # In parts that fit the processor's cache.
            parts = [priors] if priors else []
            for start in range(0, len(new), _PART):
                part = self.space.as_array(new[start : start + _PART])
                parts.append(self.predictor.prior(*prior_inputs(self.space, part)))
            priors = [
                (
                    torch.cat([hidden for hidden, _ in member]),
                    torch.cat([quality for _, quality in member]),
                )
                for member in zip(*parts, strict=True)
            ]
            place = place | {one: len(place) + i for i, one in enumerate(new)}
            self._known = place, priors
        index = torch.tensor([place[one] for one in wanted])
        return [(hidden[index], quality[index]) for hidden, quality in priors]


def _parts(space: SearchSpace, config: PredictorConfig) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(
        {
            "predictor": Predictor(config),
            "generator": Generator(_choices(space), config.members * config.embedding),
        }
    )


def _choices(space: SearchSpace) -> int:
    return max(len(decision.values) for decision in space.decisions)


def new_model(space: SearchSpace, protocol: str, predictor: Predictor) -> MetaD2A:
    """Return a model with an untrained generator around a trained predictor."""
    config = predictor.config
    generator = Generator(_choices(space), config.members * config.embedding)
    return MetaD2A(space, protocol, predictor, generator)


@lru_cache(maxsize=1)
def packaged() -> MetaD2A:
    """Return the model inside the package, loaded once a process."""
    return MetaD2A.from_pretrained(None)
