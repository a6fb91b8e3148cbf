"""A zip of class folders; nothing is unpacked to disk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from metad2a.datasets.archive import ArchiveDataset
from metad2a.datasets.base import FORMS, DatasetForm
from metad2a.datasets.forms._zip_list import list_members
from metad2a.datasets.layout import Wish


class ZipForm(DatasetForm):
    """A zip file."""

    name = "zip of class folders"
    wanted = "a zip of such a folder"
    arranged = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a zip by its name or its content."""
        return (
            isinstance(source, Path)
            and source.is_file()
            and (source.suffix.lower() == ".zip" or zipfile.is_zipfile(source))
        )

    def open(self, source: Path) -> ArchiveDataset:
        """List the image files."""
        return self.open_as(source, Wish())

    def open_as(self, source: Path, wish: Wish) -> ArchiveDataset:
        """List the image files, arranged as the user says."""
        return ArchiveDataset(source, self.name, lambda path: path.open("rb"), list_members, wish)


FORMS.register(ZipForm.name)(ZipForm())
