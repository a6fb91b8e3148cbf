"""``metad2a search DATA``: a weight-sharing search on labelled images, for some minutes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from metad2a.cli._data import add_data, open_data
from metad2a.cli._interrupt import interruptible
from metad2a.cli.common import add_json, answer, integer

_RUN = (
    "space",
    "method",
    "minutes",
    "seed",
    "device",
    "max_params",
    "max_macs",
    "images",
    "channels",
    "cells",
    "resolution",
    "faithful",
    "published",
)
"""Arguments that are handed on as they are."""


def _option(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ArgumentTypeError(
            f"{text[:100]!r} is no PART.OPTION=VALUE, such as dropnas.rate=1e-5"
        )
    return name, value


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument(
        "--space", metavar="S", default="nasbench201", help="search space (default: nasbench201)"
    )
    parser.add_argument(
        "--method",
        metavar="M",
        help="method and wrappers, such as dropnas+curriculum+pwsnas; 'metad2a methods' lists them "
        "(default: dropnas, sandwich in spaces with pretrained weights)",
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, metavar="T", help="minutes in all (default: 10)"
    )
    parser.add_argument(
        "--images",
        type=integer,
        metavar="N",
        help="a budget of training images in the place of minutes; repeats exactly",
    )
    parser.add_argument("--seed", type=integer, default=0, help="default: 0")
    parser.add_argument(
        "--device", metavar="D", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)"
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
        "--channels",
        type=integer,
        metavar="C",
        help="of the supernet's first stage (default: the space's)",
    )
    parser.add_argument(
        "--cells", type=integer, metavar="L", help="of the supernet (default: the space's)"
    )
    parser.add_argument(
        "--resolution",
        type=integer,
        metavar="PX",
        help="side of the images, in spaces that decide on it (default: what the images ask for)",
    )
    parser.add_argument(
        "--set",
        type=_option,
        action="append",
        default=[],
        dest="options",
        metavar="PART.OPTION=VALUE",
        help="an option of the method or a wrapper",
    )
    parser.add_argument(
        "--past",
        type=Path,
        nargs=2,
        metavar=("DATABASE", "DIR"),
        help="for the wrapper 'fisher': a database of past tasks, and the folder of their datasets",
    )
    parser.add_argument(
        "--faithful",
        action="store_true",
        help="keep the quirks of published code where they differ from the intent",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="search cells as the literature does, whatever --minutes says: the published supernet, "
        "the method's own epochs over all images",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="where an interrupted search is kept (default: in the cache folder, "
        "found again by the same command, and removed at the end)",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Search, with a progress bar; Ctrl-C ends with what was found, and can be gone on from."""
    from tqdm.auto import tqdm

    from search import Progress, search
    from search.engine.checkpoint import is_there

    options: dict[str, Any] = dict(args.options)
    if args.past is not None:
        from metad2a.cli._past import past_tasks
        from metad2a.spaces import SPACES

        database, folder = args.past
        options["fisher.tasks"] = past_tasks(database, folder, SPACES.get(args.space))
    checkpoint = args.checkpoint or _kept(args)
    if checkpoint is not None and is_there(checkpoint):
        print(f"Going on from {checkpoint}.", file=sys.stderr)
    with (
        contextlib.redirect_stdout(sys.stderr),
        interruptible() as should_stop,
        tqdm(total=100, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}") as bar,
    ):

        def show(progress: Progress) -> None:
            bar.set_description(progress.stage, refresh=False)
            bar.set_postfix_str(
                f"loss {progress.loss:.3f}, {progress.images:,} images", refresh=False
            )
            bar.update(100 * progress.fraction - bar.n)

        result = search(
            open_data(args),
            progress=show,
            checkpoint=checkpoint,
            should_stop=should_stop,
            options=options,
            **{name: getattr(args, name) for name in _RUN},
        )
    answer(args, result.to_dict(), str(result))
    if not result.complete:
        kept = checkpoint is not None and is_there(checkpoint)
        further = f" The same command goes on from {checkpoint}." if kept else ""
        print(f"Interrupted.{further}", file=sys.stderr)
        return 130
    if args.checkpoint is None and checkpoint is not None:
        with contextlib.suppress(OSError):
            checkpoint.unlink(missing_ok=True)
    return 0


def _kept(args: Namespace) -> Path | None:
    """Return the file in the cache folder that belongs to exactly this command, if there is one."""
    from metad2a.settings import cache_folder

    folder = cache_folder()
    if folder is None:
        return None
    source = args.data if args.data.startswith("sklearn:") else os.path.abspath(args.data)  # noqa: PTH100  (a link may lead elsewhere tomorrow, or in a circle)
    asked = {name: value for name, value in vars(args).items() if name != "json"}
    text = json.dumps({**asked, "data": source}, default=str, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return folder / "searches" / f"{key}.safetensors"
