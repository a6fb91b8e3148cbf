"""``metad2a models``: which models are here; fetch, share, read and verify one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.cli.common import add_json, answer, columns
from metad2a.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from metad2a.model.inventory import LocalModel
    from metad2a.model.verification import Verification

_MODEL = "model folder, or ORG/NAME[@REVISION] (default: the model inside the package)"


def configure(parser: ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        help="list the models that need no download",
        description="List the model inside the package and those in the Hub's cache.",
    )
    pull = actions.add_parser(
        "pull",
        help="download a model and check it",
        description="Download a model, check it and print its folder. A "
        "damaged copy in the cache is downloaded again.",
    )
    pull.add_argument("model", metavar="ORG/NAME[@REVISION]", help="id on the Hugging Face Hub")
    push = actions.add_parser(
        "push",
        help="share a model on the Hub",
        description="Check a model folder and upload its files to the "
        "Hugging Face Hub in one commit, as the account of HF_TOKEN.",
    )
    push.add_argument("folder", metavar="FOLDER", help="model folder")
    push.add_argument("repo", metavar="ORG/NAME", help="the repository; made if it is missing")
    push.add_argument("--private", action="store_true", help="make a new repository private")
    push.add_argument(
        "--revision", metavar="BRANCH", help="branch, made if it is missing (default: the main one)"
    )
    card = actions.add_parser(
        "card", help="print a model's card", description="Print a model's card."
    )
    verify = actions.add_parser(
        "verify",
        help="check a model's files, answers and figures",
        description="Check a model's files and checksum, compute its "
        "golden answers and compare, and read the figures of its card. "
        "The exit code is 1 if anything differs.",
    )
    for one in (card, verify):
        one.add_argument("model", metavar="MODEL", nargs="?", help=_MODEL)
    for one in (listing, pull, push, card, verify):
        add_json(one)


def run(args: Namespace) -> int:
    """Carry out an action."""
    return _RUN[args.action](args)


def _list(args: Namespace) -> int:
    from metad2a.model.inventory import local_models

    found = list(local_models())
    rows = [("model", "refs", "space", "format", "size", "state"), *map(_row, found)]
    answer(args, {"models": [one.to_dict() for one in found]}, columns(rows))
    return 0


def _row(one: LocalModel) -> tuple[str, ...]:
    from metad2a.model.wording import one_line

    return (
        one.model or "inside the package",
        ", ".join(one.refs) or "-",
        one_line(one.space, 40),
        str(one.format_version)[:10],
        f"{one.size / 1e6:.1f} MB",
        f"lacks {', '.join(one.missing)}" if one.missing else "complete",
    )


def _pull(args: Namespace) -> int:
    from metad2a.model.artifact import load_artifact
    from metad2a.model.hub import resolve

    folder = resolve(args.model)
    try:
        load_artifact(folder)
    except ArtifactError:
        folder = resolve(args.model, anew=True)
        load_artifact(folder)
    answer(args, {"folder": str(folder)}, str(folder))
    return 0


def _push(args: Namespace) -> int:
    from metad2a.model.hub import push
    from metad2a.model.metad2a import MetaD2A

    if not Path(args.folder).is_dir():
        raise InputError(
            f"There is no folder {args.folder!r} to push. Give one that `metad2a meta "
            "train` or MetaD2A.save_pretrained wrote."
        )
    MetaD2A.from_pretrained(args.folder)
    pinned = push(args.folder, args.repo, private=args.private, revision=args.revision)
    answer(args, {"model": pinned}, f"Pushed. This commit loads as {pinned}")
    return 0


def _card(args: Namespace) -> int:
    from metad2a.model.artifact import load_artifact
    from metad2a.model.hub import resolve
    from metad2a.model.wording import printable

    folder = resolve(args.model)
    card = load_artifact(folder).card
    answer(args, {"folder": str(folder), "card": card}, printable(card).rstrip())
    return 0


def _verify(args: Namespace) -> int:
    from metad2a.model.hub import resolve
    from metad2a.model.verification import verify

    found = verify(resolve(args.model))
    answer(args, found.to_dict(), _text(found))
    return 1 if found.problems else 0


def _text(found: Verification) -> str:
    from metad2a.model.card import FIGURES

    rows = [("folder", str(found.folder))]
    if found.weights_sha256 is not None:
        rows.append(("weights", f"SHA-256 {found.weights_sha256} as config.json says"))
    rows += [
        (f"answers {name}", f"off by {gap:.4f} points") for name, gap in (found.gaps or {}).items()
    ]
    rows += [
        (name, f"{value:g} ({FIGURES[name]})") for name, value in (found.figures or {}).items()
    ]
    verdict = "\n".join(["It differs:", *found.problems]) if found.problems else "All agrees."
    return f"{columns(rows)}\n\n{verdict}"


_RUN = {"list": _list, "pull": _pull, "push": _push, "card": _card, "verify": _verify}
