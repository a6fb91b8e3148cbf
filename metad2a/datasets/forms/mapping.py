"""Arrays in memory under names: ``{"images": x, "labels": y}``, or scikit-learn's ``Bunch``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metad2a.datasets.arrays import as_numpy
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.stored import Stored, open_stored


class MappingForm(DatasetForm):
    """A mapping of names to arrays, the names as in :func:`metad2a.datasets.stored.open_stored`."""

    name = "mapping of arrays"
    wanted = "a dict of such arrays"

    def accepts(self, source: Any) -> bool:
        """Whether it is a mapping with two arrays or more, tensors among them."""
        if not isinstance(source, Mapping):
            return False
        arrays = [value for value in source.values() if _is_array(value)]
        return len(arrays) > 1 and any(len(value.shape) > 1 for value in arrays)

    def open(self, source: Mapping[Any, Any]) -> ImageDataset:
        """Find images and labels among the arrays."""
        arrays = {}
        for key, value in source.items():
            listed = isinstance(value, (list, tuple)) and "name" in str(key)
            if _is_array(value) or listed:
                array = as_numpy(value, "Arrays")
                arrays[str(key)] = Stored(array.shape, array.dtype, array.view)
        return open_stored("arrays", self.name, arrays, None)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and len(value.shape) > 0


FORMS.register(MappingForm.name)(MappingForm())
