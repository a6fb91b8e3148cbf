"""Real images that come inside a package, for a first try without any data of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.forms.arrays import ArrayDataset
from metad2a.errors import InputError
from metad2a.registry import suggest_name

PREFIX = "sklearn:"


class ExampleForm(DatasetForm):
    """``sklearn:digits``: 1,797 handwritten digits of 8x8 pixels, from scikit-learn."""

    name = "example"
    wanted = "'sklearn:digits', the bundled example"

    def accepts(self, source: Any) -> bool:
        """Whether it is a string that starts with ``sklearn:``."""
        return isinstance(source, str) and source.startswith(PREFIX)

    def open(self, source: str) -> ImageDataset:
        """Load the digits; their values 0 to 16 become 0 to 255.

        Raises:
            InputError: another name, or scikit-learn is missing.
        """
        if source != f"{PREFIX}digits":
            raise InputError(
                f"Unknown example {source[:100]!r}.{suggest_name(source, [PREFIX + 'digits'])}"
            )
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise InputError(
                f"{source!r} needs scikit-learn, which is not installed. "
                "Run: pip install metad2a[demo]"
            ) from error
        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
        dataset = ArrayDataset(images, digits.target)
        dataset.name, dataset.form = "digits", self.name
        return dataset


FORMS.register(ExampleForm.name)(ExampleForm())
