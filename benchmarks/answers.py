"""How the answers for datasets of different kinds differ.

For each dataset the model is fitted without the dataset's family, as a stranger's images are
strangers to it; then it answers as ``suggest`` does.
"""

from __future__ import annotations

from _report import need, parser, publish, run, table
from tqdm import tqdm

from metad2a.answers import PieceAnswers
from metad2a.candidate import Candidate
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.meta_training.rows import packaged_rows
from metad2a.model.performance import Performance
from metad2a.result import CostLimits, answered
from metad2a.spaces import SPACES

DATASETS = (
    "pacs_photo",
    "caltech101",
    "rsscn7",
    "plantvillage15",
    "flowers_5",
    "brain_mri_4",
    "chars74k_good",
    "playing_cards_53",
)
STEPS = 40


def way(one: Candidate) -> str:
    """Return how a network is trained, in a few words."""
    if one.recipe is None or one.recipe.rate == 0:
        return "frozen"
    return f"rate {one.recipe.rate:g}, {one.recipe.epochs:.0f} epochs"


def main() -> None:
    """Answer and publish."""
    out = parser(__doc__ or "")
    out.add_argument("--minutes", type=float, default=1.0)
    out.add_argument("--datasets", nargs="+", default=list(DATASETS), metavar="NAME")
    args = out.parse_args()
    rows = packaged_rows()
    family = {row.dataset: row.family for row in rows}
    lines = []
    for name in tqdm(args.datasets, unit="dataset", delay=2):
        if name not in family:
            raise InputError(f"The dataset {name!r} has no labels; known are {', '.join(family)}.")
        model = Performance.fit([row for row in rows if row.family != family[name]], STEPS)
        dataset = load_dataset(need(args.shared, f"data/{name}"))
        answers = PieceAnswers(SPACES.get("efficientnet_lite"), model, dataset, 0, args.minutes)
        found = answered(answers, dataset, CostLimits())
        best, enough = found[0], found.front["within_3"]
        lines.append(
            (
                name,
                f"{best.accuracy:.0f} ({best.interval[0]:.0f} to {best.interval[1]:.0f})",
                best.architecture.split("-e")[0],
                way(best),
                f"{best.macs / 1e6:.0f}",
                f"{enough.macs / 1e6:.0f}",
                enough.architecture.split("-e")[0],
            )
        )
    publish(
        "answers",
        "How answers differ",
        [
            f"`suggest --minutes {args.minutes:g}`, each by a model that has seen nothing of the "
            "dataset's family. Networks by resolution, stages and blocks; work in millions of "
            "multiply-adds an image; *enough* is the least work most likely within 3 points of the best.",
            table(
                (
                    "dataset",
                    "expected, % (90 % interval)",
                    "best",
                    "trained",
                    "work",
                    "enough: work",
                    "network",
                ),
                lines,
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
