"""``metad2a meta train|evaluate|known|performance|adapt``: what answers, learnt from a database or images."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.cli import _adapt, _known, _performance
from metad2a.cli.common import add_json, answer, integer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def configure(parser: ArgumentParser) -> None:
    """Add the commands and their arguments."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("train", "meta-train a model and write its folder"),
        ("evaluate", "judge by leaving each family of datasets out"),
    ):
        one = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        one.add_argument("evaluations", type=Path, help="Parquet file of 'metad2a db export'")
        one.add_argument("tasks", type=Path, help="Parquet file of 'metad2a db export --tasks'")
        one.add_argument("--data", type=Path, required=True, help="folder of the datasets")
        one.add_argument("--space", default="nasbench201", help="search space")
        one.add_argument("--seed", type=integer, default=0, help="of everything (default: 0)")
        one.add_argument("--members", type=integer, default=5, help="of the ensemble (default: 5)")
        one.add_argument(
            "--redraws", type=integer, default=2, help="image samples a task (default: 2)"
        )
        one.add_argument(
            "--cache",
            type=Path,
            default=Path("build/descriptions"),
            help="folder of described tasks, which a second run goes on from",
        )
        if name == "train":
            one.add_argument("--out", type=Path, required=True, help="model folder to write")
        add_json(one)
    text = "write into a model's folder which datasets it learnt from"
    _known.configure(commands.add_parser("known", help=text, description=f"{text.capitalize()}."))
    text = "learn from exported rows what fine-tuned networks reach, and judge it"
    _performance.configure(
        commands.add_parser("performance", help=text, description=f"{text.capitalize()}.")
    )
    text = "adapt the weights that networks inherit, so that narrow ones can be cut out of them"
    _adapt.configure(commands.add_parser("adapt", help=text, description=f"{text.capitalize()}."))


def run(args: Namespace) -> int:
    """Judge, and for ``train`` also train on everything and write the folder."""
    if args.action == "known":
        return _known.run(args)
    if args.action == "performance":
        return _performance.run(args)
    if args.action == "adapt":
        return _adapt.run(args)
    from metad2a.cli._tasks import described_tasks
    from metad2a.model.card import model_card
    from metad2a.model.figures import summarise
    from metad2a.model.golden import answers
    from metad2a.model.meta_training import ACCURACY, assemble, judge, train_prior
    from metad2a.model.model_training import train
    from metad2a.model.records import read_records
    from metad2a.spaces import SPACES

    space = SPACES.get(args.space)
    for name, least in (("seed", 0), ("members", 1), ("redraws", 1)):
        if getattr(args, name) < least:
            raise InputError(f"--{name} {getattr(args, name)} is too few; use {least} or more.")
    records = read_records(args.evaluations)
    tasks = described_tasks(args.tasks, args.data, args.redraws, args.cache)
    data = assemble(space, records, tasks)
    predictor = train_prior(data, args.seed, args.members, progress=_bar("prior", "epoch"))
    judgement = judge(data, predictor, args.seed, _bar("judging", "family"))
    figures = summarise(data, judgement)
    if args.action == "train":
        model = train(data, predictor, judgement, args.seed, _bar("generator", "step"))
        model.card = model_card(space.name, ACCURACY, records, tasks, figures)
        model.golden = answers(model)
        model.save_pretrained(args.out)
    answer(
        args,
        figures.to_dict(),
        f"coverage {figures.coverage:.1%} of {figures.trainings} trainings, interval "
        f"{figures.width:.1f} points\n{figures.table()}",
    )
    return 0


def _bar(text: str, unit: str) -> Callable[[int, int], None]:
    """Return a progress callback that draws a bar on standard error."""
    from tqdm.auto import tqdm

    bar = tqdm(desc=text, unit=unit)

    def update(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return update
