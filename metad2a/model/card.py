"""The model card: what a model was trained on, what it reaches, and where not to trust it.

The head is the metadata block that the Hub reads. It states the measured figures once more, for
programs (``model-index``), and :func:`contradictions` tells where head and text part.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Sequence

from metad2a.model.description import STATISTICS
from metad2a.model.figures import Figures
from metad2a.model.meta_training import MetaTask
from metad2a.model.records import Record
from metad2a.model.wording import one_line

FIGURES = {
    "coverage": "trainings inside the 90 % interval, percent",
    "width": "width of the interval at the median, points",
    "concordance": "concordance within a task",
    "regret": "regret of the first, points",
    "error": "mean absolute error, points",
}
"""Metric of the head to what it is."""
_IN_TEXT = (
    "**{coverage:.1f}%** of the trainings",
    "{width:.0f} points wide",
    "| model | {concordance:.3f} | {regret:.2f} | {error:.1f} |",
)
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~!@:$.])")
_LONGEST_HEAD = 2**16


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, in one line, in a table too."""
    return html.escape(_MARKUP.sub(r"\\\1", one_line(text, 100)), quote=False)


def model_card(
    space: str,
    protocol: str,
    records: Sequence[Record],
    tasks: Sequence[MetaTask],
    figures: Figures,
) -> str:
    """Return the card as Markdown with the Hub's metadata block."""
    names = {task.dataset for task in tasks}
    judges = (
        "" if any(name.startswith("cifar10") for name in names) else " CIFAR-10 was never used."
    )
    return f"""{_head(space, figures)}
# MetaD2A for {space}

A set encoder, a graph generator and a meta performance predictor. Given labelled images it
generates cells of the space `{space}` and predicts the test accuracy that each would reach under
the protocol `{protocol}`, with a 90 % interval.

## How to load it

In place of `org/name` put the id of this page, with `@` and a revision to pin one, or the path of
a folder with its files. Without `model` the model inside the package is used.

```python
from metad2a import MetaD2A, suggest

print(suggest("my_images.zip", model="org/name"))
model = MetaD2A.from_pretrained("org/name")
```

```console
$ metad2a suggest my_images.zip --model org/name
$ metad2a models verify org/name
```

## What it was trained on

{len(records):,} measurements on {len(tasks)} tasks (class subsets, sizes and resolutions) of the
datasets below. No image is in this folder.{judges}

{_protocols(records)}

{_families(tasks, figures)}

## What it reaches

Each family of datasets was left out once and judged by a model that had not seen it
({figures.trainings} trainings, {figures.tasks} tasks, {figures.families} families):

* **{figures.coverage:.1%}** of the trainings lie in the 90 % interval, calibrated on the other
  families.
* The interval is {figures.width:.0f} points wide at the median: the level of an unseen dataset is
  uncertain, the order of architectures much less so.

{figures.table()}

Concordance counts every pair of trainings within a task; they are single runs on small test sides,
so much of what separates it from 1 is their noise. "features shuffled" gives each task the
description of another task of its family: where it does not fall below the model, the ranking owes
nothing to the dataset. "prior alone" leaves the dataset's own taste out.

## Limits

* `{protocol}` is a short training of a small network on at most 2,000 images of at most 32x32
  pixels: a yardstick, not what a long training of the full network reaches.
* Tasks had {_span(tasks, "log_classes")} classes and {_span(tasks, "log_images")} training images;
  outside that the level is extrapolated.
* Ranking rests mostly on a prior that all datasets share; what it adds for one dataset is small.

## Licence

Apache-2.0, for the files of this folder. The datasets keep their own licences; none is distributed
here.
"""


def stated(card: str) -> dict[str, float]:
    """Return the figures that a card's head states; none where it has no head that can be read."""
    from huggingface_hub import ModelCard

    if not card.startswith("---\n") or not 0 < card.find("\n---", 4) < _LONGEST_HEAD:
        return {}
    try:
        results = getattr(ModelCard(card).data, "eval_results", None) or []
    # YAML of a stranger: what its parser and the client raise on nonsense is not documented.
    except Exception:
        return {}
    return {
        one.metric_type: float(one.metric_value)
        for one in results
        if one.metric_type in FIGURES
        and type(one.metric_value) in (int, float)
        and abs(one.metric_value) < 1e6
    }


def contradictions(card: str) -> list[str]:
    """Return which figures a card does not state, or states in its text otherwise than above it."""
    found = stated(card)
    missing = [
        f"README.md: the head states no figure {name!r} ({what})"
        for name, what in FIGURES.items()
        if name not in found
    ]
    if missing:
        return missing
    lines = [template.format(**found) for template in _IN_TEXT]
    return [
        f"README.md: the head says {line!r}, the text does not"
        for line in lines
        if line not in card
    ]


def _head(space: str, figures: Figures) -> str:
    row = next(row for row in figures.rows if row.name == "model")
    values = {
        "coverage": f"{figures.coverage:.1%}"[:-1],
        "width": f"{figures.width:.0f}",
        "concordance": f"{row.concordance:.3f}",
        "regret": f"{row.regret:.2f}",
        "error": f"{math.nan if row.error is None else row.error:.1f}",
    }
    # A string of JSON is one of YAML.
    metrics = "\n".join(
        f"    - {{type: {name}, value: {value}, name: {json.dumps(FIGURES[name])}}}"
        for name, value in values.items()
        if math.isfinite(float(value))
    )
    judged = json.dumps(
        f"{figures.trainings} trainings on {figures.tasks} tasks of "
        f"{figures.families} families of datasets, each family left out once"
    )
    return f"""---
license: apache-2.0
library_name: metad2a
pipeline_tag: image-classification
tags: [neural-architecture-search, meta-learning, {json.dumps(space)}]
model-index:
- name: {json.dumps(f"MetaD2A for {space}")}
  results:
  - task: {{type: image-classification, name: accuracy of architectures on unseen datasets}}
    dataset: {{type: leave-one-family-out, name: {judged}}}
    metrics:
{metrics}
---"""


def _protocols(records: Sequence[Record]) -> str:
    counts = Counter(record.protocol for record in records)
    return "\n".join(
        [
            "| protocol | rows |",
            "|---|---|",
            *(f"| {escape(name)} | {count:,} |" for name, count in sorted(counts.items())),
        ]
    )


def _families(tasks: Sequence[MetaTask], figures: Figures) -> str:
    families: dict[str, set[str]] = {}
    for task in tasks:
        families.setdefault(task.family, set()).add(task.dataset)
    lines = [
        "| family | datasets | its trainings inside the 90 % interval when the family was "
        "left out |",
        "|---|---|---|",
    ]
    for family, names in sorted(families.items()):
        share = figures.by_family.get(family)
        lines.append(
            f"| {escape(family)} | {', '.join(map(escape, sorted(names)))} | "
            f"{'not judged' if share is None else f'{share:.0%}'} |"
        )
    return "\n".join(lines)


def _span(tasks: Sequence[MetaTask], statistic: str) -> str:
    """Return the range over tasks of a statistic that is the logarithm of a number."""
    place = STATISTICS.index(statistic)
    found = [round(10 ** float(task.redraws[0].statistics[place])) for task in tasks]
    return f"{min(found):,} to {max(found):,}"
