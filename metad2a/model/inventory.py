"""Which models are here: the one inside the package, and those in the Hub client's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metad2a.errors import ArtifactError
from metad2a.model.artifact import FILES, KNOWN, VERSION_KEY, is_ours, read_config
from metad2a.model.hub import resolve


@dataclass(frozen=True)
class LocalModel:
    """A model that needs no download."""

    model: str | None
    """What loads it: ``"org/name@commit"``, or None for the model inside the package."""
    refs: tuple[str, ...]
    """Branches and tags that meant it when the Hub was last asked."""
    space: str
    format_version: int
    size: int
    """Bytes of its files."""
    missing: tuple[str, ...]
    """Files that a cut download left out."""
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return {
            **vars(self),
            "refs": list(self.refs),
            "missing": list(self.missing),
            "folder": str(self.folder),
        }


def local_models() -> Iterator[LocalModel]:
    """Yield the packaged model, then the cached ones by name; other libraries' are left out."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    packaged = _look(resolve(None))
    if packaged is not None:
        yield packaged
    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, ValueError, OSError, RuntimeError):
        # None yet, a file in its place, one that may not be read, or a user without a home.
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        for revision in sorted(repo.revisions, key=lambda one: one.last_modified, reverse=True):
            found = (
                None
                if repo.repo_type != "model"
                else _look(
                    revision.snapshot_path,
                    f"{repo.repo_id}@{revision.commit_hash}",
                    tuple(sorted(revision.refs)),
                )
            )
            if found is not None:
                yield found


def _look(folder: Path, model: str | None = None, refs: tuple[str, ...] = ()) -> LocalModel | None:
    """Return what a folder holds, or None where it is no model of ours."""
    try:
        config = read_config(folder)
    except ArtifactError:
        return None
    space, version = config.get("space"), config.get(VERSION_KEY)
    if not is_ours(config) or not isinstance(space, str) or type(version) is not int:
        return None
    there = [name for name in (*FILES, KNOWN) if (folder / name).is_file()]
    return LocalModel(
        model,
        refs,
        space,
        version,
        size=sum((folder / name).stat().st_size for name in there),
        missing=tuple(name for name in FILES if name not in there),
        folder=folder,
    )
