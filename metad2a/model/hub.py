"""Where a model comes from: the package, a local folder, or the Hugging Face Hub; and back to it.

The Hub is spoken to with its own client, which keeps a cache and obeys its environment variables:
``HF_ENDPOINT`` (a mirror), ``HF_HUB_OFFLINE=1`` (cache only), ``HF_HOME`` (where the cache is) and
``HF_TOKEN`` (private models, and pushing).
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from metad2a.errors import ArtifactError, InputError
from metad2a.model.artifact import CONFIG, FILES, KNOWN, is_ours, read_config
from metad2a.model.wording import without_token

# The revision names a file in the client's cache, so it must not climb out of it.
HUB_ID = re.compile(
    r"(?P<id>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>\w(?:[\w-]|[./](?![./]))*))?", re.ASCII
)
_TOKEN = re.compile(r"[!-~]+")


def resolve(model: str | Path | None = None, *, anew: bool = False) -> Path:
    """Return the local folder of a model, downloading it first where needed.

    Args:
        model: None for the model inside the package, a local folder, or a Hub id: ``"org/name"``
            or ``"org/name@revision"`` (branch, tag or commit). A local folder goes before a Hub id
            of the same name.
        anew: download even what the cache holds, to mend a damaged copy.

    Raises:
        ArtifactError: there is no such folder, the id is malformed, or the Hub does not give it.
        InputError: it is a model of another library.
    """
    if model is None:
        return Path(str(resources.files("metad2a"))) / "assets" / "model"
    mode = _mode(model)
    if mode is not None and stat.S_ISDIR(mode):
        return Path(model)
    parts = HUB_ID.fullmatch(model) if isinstance(model, str) else None
    if parts is None or mode is not None:
        raise ArtifactError(
            f"model={str(model)[:200]!r} is neither a folder nor a Hub id. Give the path of a "
            "model folder, an id such as 'org/name' or 'org/name@revision', or None for the model "
            "inside the package."
        )
    return _download(parts["id"], parts["revision"], anew)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a MetaD2A model",
) -> str:
    """Upload the files of a model folder as they are, and nothing else that lies there.

    The arguments after ``folder``, what is returned and what is raised are those of
    :meth:`metad2a.MetaD2A.push_to_hub`. Whether the folder holds a sound model is for the caller
    to check.
    """
    whole = repo_id if revision is None else f"{repo_id}@{revision}"
    parts = HUB_ID.fullmatch(whole)
    if parts is None or parts["id"] != repo_id:
        raise InputError(
            f"{whole[:200]!r} is no place for a model on the Hub. Give an id such as "
            "'org/name', and a branch apart from it, such as revision='v2'."
        )
    if token is not None and not _TOKEN.fullmatch(token):
        raise InputError(
            "The token holds blanks or other characters that no token has; copy it "
            "again from the settings of your Hub account."
        )
    if not message.strip():
        raise InputError("The message of the commit is empty; say what is uploaded.")
    files = _own_files(Path(folder))
    with _explained("push", repo_id, revision):
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.create_commit(
            repo_id,
            [CommitOperationAdd(path.name, path) for path in files],
            commit_message=message,
            revision=revision,
        )
    return f"{repo_id}@{done.oid}"


def _mode(model: object) -> int | None:
    """Return the file mode of a path, or None where there is nothing or it cannot be one."""
    if model == "":
        return None
    try:
        return Path(model).stat().st_mode  # type: ignore[arg-type]
    except (OSError, TypeError, ValueError):
        return None


def _own_files(folder: Path) -> list[Path]:
    """Return the files of a model; a link to a secret beside a stranger's model is not followed."""
    from huggingface_hub.constants import HF_HUB_CACHE

    # The files of a downloaded model are links into the cache.
    places = [folder.resolve(), Path(HF_HUB_CACHE).resolve()]
    files = [folder / name for name in FILES]
    if (folder / KNOWN).is_file():
        files.append(folder / KNOWN)
    for path in files:
        if not any(path.resolve().is_relative_to(place) for place in places):
            raise InputError(
                f"{path.name} is a link to a file outside of the model folder, which "
                "is not uploaded. Put a copy of the file in its place."
            )
    return files


def _download(repo: str, revision: str | None, anew: bool) -> Path:
    name = repo if revision is None else f"{repo}@{revision}"
    with _explained("download", repo, revision):
        # The client takes long to import and reads its environment then.
        from huggingface_hub import snapshot_download

        # First the config alone: the weights of another library's model can be gigabytes.
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=[CONFIG], force_download=anew)
        )
        # One that is damaged is left to those who load it, and to `metad2a models pull`.
        with contextlib.suppress(ArtifactError):
            if not is_ours(read_config(folder)):
                raise InputError(
                    f"{name!r} is a model of another library: its {CONFIG} is not "
                    "that of a metad2a model. Check the name."
                )
        # The folder is called after the commit, so all files are of one.
        snapshot_download(
            repo, revision=folder.name, allow_patterns=[*FILES, KNOWN], force_download=anew
        )
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise ArtifactError(
            f"The model {name!r} is not whole: {', '.join(missing)} is missing. The repository "
            "lacks it, or a download was cut and the Hub cannot be reached now. "
            + _ways_out(repo, revision)
        )
    return folder


@contextlib.contextmanager
def _explained(action: str, repo: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors into one that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = repo if revision is None else f"{repo}@{revision}"
    start = f"Cannot {action} the model {name!r}"
    try:
        yield
    except InputError:
        raise
    except HFValidationError as error:
        raise ArtifactError(f"{repo!r} is not a Hub id: {error}") from error
    except RevisionNotFoundError as error:
        raise ArtifactError(
            f"{start}: it has no revision {revision!r} on the Hub. Check the branch, tag or "
            "commit, or leave it out for the newest."
        ) from error
    except GatedRepoError as error:
        raise ArtifactError(
            f"{start}: it is gated. Ask for access on its Hub page, then set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise ArtifactError(
            f"{start}: the Hub has no model {repo!r}, or it is private. Check the "
            "name; for a private model set HF_TOKEN."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ArtifactError(
            f"{start}: it is not in the local cache and the Hub cannot be reached (no network, or "
            f"HF_HUB_OFFLINE is set). {_ways_out(repo, revision)}"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ArtifactError(
            f"{start}: HF_HUB_OFFLINE is set. Unset it to reach the Hub."
        ) from error
    # Which errors a broken transfer raises depends on the HTTP library below the client, and that
    # changed twice between the versions that we support; they share no base class.
    except Exception as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            raise ArtifactError(
                f"{start}: the Hub refuses (HTTP {status}). Set HF_TOKEN to a token that may do "
                "this, or log in with `hf auth login`."
            ) from error
        told = f"{type(error).__name__}: {without_token(error)}"
        raise ArtifactError(f"{start} ({told}). Try again: files that arrived are kept.") from error


def _ways_out(repo: str, revision: str | None) -> str:
    return (
        "Three ways out:\n"
        "1. pass a local model folder: model='path/to/folder';\n"
        "2. use the model inside the package: model=None;\n"
        "3. download it where there is a network, and bring the cache (HF_HOME) along: "
        f"hf download {repo}" + (f" --revision {revision}" if revision else "")
    )
