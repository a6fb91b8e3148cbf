"""A tar of class folders, plain or compressed; no member is unpacked to disk."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from metad2a.datasets.archive import ArchiveDataset
from metad2a.datasets.base import FORMS, DatasetForm
from metad2a.datasets.forms._tar_list import list_members
from metad2a.datasets.forms._uncompress import open_uncompressed
from metad2a.datasets.layout import Wish

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
"""File-name endings, in lower case."""


class TarForm(DatasetForm):
    """A tar file, perhaps compressed by gzip, bzip2, xz or zstd."""

    name = "tar of class folders"
    wanted = "a tar of such a folder, also compressed (.tar.gz, .tar.bz2, .tar.xz, .tar.zst)"
    arranged = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a tar by its name or its content."""
        if not isinstance(source, Path) or not source.is_file():
            return False
        if source.name.lower().endswith(ENDINGS):
            return True
        with contextlib.suppress(OSError), source.open("rb") as file:
            return file.read(512)[257:262] == b"ustar"
        return False

    def open(self, source: Path) -> ArchiveDataset:
        """List the image files."""
        return self.open_as(source, Wish())

    def open_as(self, source: Path, wish: Wish) -> ArchiveDataset:
        """List the image files, arranged as the user says."""
        return ArchiveDataset(source, self.name, open_uncompressed, list_members, wish)


FORMS.register(TarForm.name)(TarForm())
