"""``metad2a train DATA --out DIR``: a trained network with everything it needs, within minutes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from metad2a.cli._data import add_data, open_data
from metad2a.cli._interrupt import interruptible
from metad2a.cli.common import add_json, answer, integer
from metad2a.errors import InputError


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 10**5:
        raise ArgumentTypeError(f"{text[:50]!r} is no number of minutes above 0, such as 10 or 0.5")
    return value


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", required=True, help="folder for what was trained"
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        default=10.0,
        metavar="T",
        help="minutes in all, reading and judging counted (default: 10)",
    )
    parser.add_argument(
        "--network",
        metavar="N|STRING",
        help="number of a suggestion (1 is the first), or the string of a network; by default "
        "network, resolution and recipe are chosen together for the time there is",
    )
    parser.add_argument(
        "--space",
        metavar="S",
        help="search space (default: that of --network, else efficientnet_lite)",
    )
    parser.add_argument(
        "--max-params",
        type=integer,
        metavar="N",
        help="most trainable parameters: 2000000, 2e6 or 2M",
    )
    parser.add_argument(
        "--max-macs",
        type=integer,
        metavar="N",
        help="most multiply-adds for one image: 50000000, 5e7 or 50M",
    )
    parser.add_argument(
        "--recipe",
        metavar="R",
        help="a recipe of the literature for --network, such as darts600: it takes as long as it "
        "takes, whatever --minutes says",
    )
    parser.add_argument("--seed", type=integer, default=0, help="default: 0")
    parser.add_argument(
        "--device", metavar="D", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a training of DIR that was stopped"
    )
    parser.add_argument("--no-onnx", action="store_true", help="do not write model.onnx")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="write model.int8.onnx too, and say what it loses on the test side",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Train with a progress bar and write the folder; Ctrl-C ends with what there is."""
    from metad2a.datasets import load_dataset
    from metad2a.export.folder import check_free
    from metad2a.training.progress_bar import progress_bar
    from metad2a.training.train import train

    started = time.perf_counter()
    check_free(args.out)  # What cannot be written is not trained for.
    checkpoint = args.out.with_name(f"{args.out.name}.training")
    if checkpoint.exists() and not args.resume:
        print(
            f"{checkpoint} is a training that was stopped; --resume goes on with it. It is "
            "replaced now.",
            file=sys.stderr,
        )
    quiet = int(os.environ.get("RANK", "0")) > 0
    with (
        contextlib.redirect_stdout(sys.stderr),
        interruptible() as should_stop,
        progress_bar(disable=quiet) as show,
    ):
        source, network = load_dataset(open_data(args)), args.network
        if not quiet:
            for note in source.notes:
                print(note, file=sys.stderr)
        if network is not None and network.isdigit():
            source, network = _suggested(args, source, int(network)), None
        trained = train(
            source,
            minutes=max(0.05, args.minutes - (time.perf_counter() - started) / 60),
            network=network,
            space=args.space,
            max_params=args.max_params,
            max_macs=args.max_macs,
            recipe=args.recipe,
            seed=args.seed,
            device=args.device,
            progress=show,
            should_stop=should_stop,
            checkpoint=checkpoint,
            resume=args.resume,
        )
        if quiet:
            return 0
        saved = trained.save(args.out, onnx=not args.no_onnx, int8=args.int8)
    answer(args, trained.to_dict(list(saved.files)), f"{trained}\n\n{saved}")
    if trained.partial:
        print("Interrupted. The same command with --resume goes on from there.", file=sys.stderr)
        return 130
    return 0


def _suggested(args: Namespace, source: Any, number: int) -> Any:
    """Return a suggestion by its number."""
    from metad2a import suggest

    found = suggest(
        source,
        k=max(5, number),
        space=args.space,
        max_params=args.max_params,
        max_macs=args.max_macs,
        seed=args.seed,
    )
    if not 1 <= number <= len(found):
        raise InputError(f"--network {number}: there are suggestions 1 to {len(found)}.")
    return found[number - 1]
