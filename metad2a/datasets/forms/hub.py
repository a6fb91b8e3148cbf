"""A dataset of the Hugging Face Hub by its name: ``hf:org/name``."""

from __future__ import annotations

import re
from typing import Any

from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.forms.huggingface import HuggingFaceDataset
from metad2a.errors import InputError

_ID = re.compile(
    r"hf:(?://datasets/|//)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<config>[\w.-]+))?"
)


class HubForm(DatasetForm):
    """``hf:org/name``, ``hf:org/name@revision`` or ``hf:org/name:config``.

    The library ``datasets`` fetches the files into its own cache and keeps its settings (offline
    mode, mirrors, tokens). No code of the repository is run.
    """

    name = "hub dataset"
    wanted = "'hf:org/name', a dataset of the Hugging Face Hub"
    for_strangers = False

    def accepts(self, source: Any) -> bool:
        """Whether it is a text that begins with ``hf:``."""
        return isinstance(source, str) and source.startswith("hf:")

    def open(self, source: str) -> ImageDataset:
        """Fetch the dataset and read the labels of all splits.

        Raises:
            InputError: the name is none, ``datasets`` is missing, or the dataset cannot be fetched.
        """
        named = _ID.fullmatch(source)
        if named is None:
            raise InputError(
                f"{source[:100]!r} is no name of a dataset. Write 'hf:org/name', and perhaps "
                "@revision and :config."
            )
        try:
            import datasets
        except ImportError as error:
            raise InputError(
                f"{source!r} needs the library datasets, which is not installed. Run: pip install "
                "'metad2a[hub]'"
            ) from error
        # Scripts of repositories are run by old releases alone, and then only if told to.
        plain = {} if int(datasets.__version__.split(".")[0]) >= 4 else {"trust_remote_code": False}
        try:
            found = datasets.load_dataset(
                named["name"], named["config"], revision=named["revision"], **plain
            )
        except Exception as error:  # Whatever network, cache and parsers raise.
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{source!r} cannot be fetched from the Hub ({type(error).__name__}: {reason}). "
                "Check the name and the network, or download it and give the folder."
            ) from error
        dataset = HuggingFaceDataset(found)
        dataset.name, dataset.form = named["name"].rpartition("/")[2], self.name
        return dataset


FORMS.register(HubForm.name)(HubForm())
