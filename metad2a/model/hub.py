"""Where a model comes from: the package, a local folder, or the Hugging Face Hub.

The Hub is read with its own client, which keeps a cache and obeys its environment variables:
``HF_ENDPOINT`` (a mirror), ``HF_HUB_OFFLINE=1`` (cache only), ``HF_HOME`` (where the cache is) and
``HF_TOKEN`` (private models).
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from metad2a.errors import ArtifactError
from metad2a.model.artifact import FILES

# The revision names a file in the client's cache, so it must not climb out of it.
HUB_ID = re.compile(
    r"(?P<id>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>\w(?:[\w-]|[./](?![./]))*))?", re.ASCII
)


def resolve(model: str | Path | None = None) -> Path:
    """Return the local folder of a model, downloading it first where needed.

    Args:
        model: None for the model inside the package, a local folder, or a Hub id: ``"org/name"``
            or ``"org/name@revision"`` (branch, tag or commit). A local folder goes before a Hub id
            of the same name.

    Raises:
        ArtifactError: there is no such folder, the id is malformed, or the Hub does not give it.
    """
    if model is None:
        return Path(str(resources.files("metad2a"))) / "assets" / "model"
    folder = Path(model)
    if model != "" and folder.is_dir():
        return folder
    parts = HUB_ID.fullmatch(model) if isinstance(model, str) else None
    if parts is None or folder.exists():
        raise ArtifactError(
            f"model={str(model)!r} is neither a folder nor a Hub id. Give the path of a model "
            "folder, an id such as 'org/name' or 'org/name@revision', or None for the model "
            "inside the package."
        )
    return _download(parts["id"], parts["revision"])


def _download(repo: str, revision: str | None) -> Path:
    # huggingface_hub takes long to import and reads its environment then.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repo if revision is None else f"{repo}@{revision}"
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except HFValidationError as error:
        raise ArtifactError(f"{repo!r} is not a Hub id: {error}") from error
    except RevisionNotFoundError as error:
        raise ArtifactError(
            f"The model {repo!r} has no revision {revision!r} on the Hub. "
            "Check the branch, tag or commit, or leave '@revision' out for the newest."
        ) from error
    except GatedRepoError as error:
        raise ArtifactError(
            f"The model {repo!r} is gated. Ask for access on its Hub page, then set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ArtifactError(
            f"The Hub has no model {repo!r}, or it is private. Check the name; "
            "for a private model set HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ArtifactError(
            f"The model {name!r} is not in the local cache and the Hub cannot be reached "
            "(no network, or HF_HUB_OFFLINE is set). Three ways out:\n"
            "1. pass a local model folder: model='path/to/folder';\n"
            "2. use the model inside the package: model=None;\n"
            "3. download it where there is a network, and bring the cache (HF_HOME) along: "
            f"hf download {repo}" + (f" --revision {revision}" if revision else "")
        ) from error
    # Which errors a broken transfer raises depends on the HTTP library below the client, and that
    # changed twice between the versions that we support; they share no base class.
    except Exception as error:
        raise ArtifactError(
            f"Downloading the model {name!r} failed ({type(error).__name__}: {error}). "
            "Try again: files that arrived are kept."
        ) from error
