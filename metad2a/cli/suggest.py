"""``metad2a suggest DATA``: the networks predicted to do best on labelled images."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, Namespace

from metad2a.cli._data import add_data, open_data
from metad2a.cli.common import add_json, answer, integer


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument("--k", type=integer, default=5, help="number of networks (default: 5)")
    parser.add_argument(
        "--seed", type=integer, default=0, help="the same seed gives the same answer (default: 0)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        metavar="T",
        help="what training may take on this machine (default: 10)",
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
        "--max-latency-ms",
        type=float,
        metavar="MS",
        help="most milliseconds for one image on this machine's CPU, as measured "
        "(takes some seconds; another machine gives another answer)",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="model folder, or ORG/NAME[@REVISION] on the "
        "Hugging Face Hub (default: the model inside the package)",
    )
    parser.add_argument(
        "--space",
        metavar="S",
        help="search space, or auto, which compares those with pretrained weights (default: that of "
        "--model; without it, efficientnet_lite)",
    )
    parser.add_argument(
        "--given",
        metavar="FILE",
        help="what networks are known to reach on these images: a JSON object or CSV of network, "
        "accuracy in percent",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Print the suggestions."""
    from metad2a import suggest
    from metad2a.cli._given import read_given

    given = None if args.given is None else read_given(args.given)
    # Whatever a library prints on the way must not mix with the answer.
    with contextlib.redirect_stdout(sys.stderr):
        result = suggest(
            open_data(args),
            k=args.k,
            seed=args.seed,
            minutes=args.minutes,
            max_params=args.max_params,
            max_macs=args.max_macs,
            max_latency_ms=args.max_latency_ms,
            model=args.model,
            space=args.space,
            given=given,
        )
    answer(args, result.to_dict(), f"{result.report}\n\n{result}")
    return 0
