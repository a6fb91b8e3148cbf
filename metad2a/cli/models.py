"""``metad2a models``: fetch a model, or read its card."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from metad2a.cli.common import add_json, answer


def configure(parser: ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    pull = actions.add_parser("pull", help="download a model and check it",
                              description="Download a model, check it and print its folder.")
    pull.add_argument("model", metavar="ORG/NAME[@REVISION]", help="id on the Hugging Face Hub")
    card = actions.add_parser("card", help="print a model's card",
                              description="Print a model's card.")
    card.add_argument("model", metavar="MODEL", nargs="?", help="model folder, or "
                      "ORG/NAME[@REVISION] (default: the model inside the package)")
    add_json(pull)
    add_json(card)


def run(args: Namespace) -> int:
    """Print the folder or the card of a model that is there and whole."""
    from metad2a.model.artifact import load_artifact
    from metad2a.model.hub import resolve

    folder = resolve(args.model)
    artifact = load_artifact(folder)
    if args.action == "pull":
        answer(args, {"folder": str(folder)}, str(folder))
    else:
        answer(args, {"folder": str(folder), "card": artifact.card}, artifact.card.rstrip())
    return 0
