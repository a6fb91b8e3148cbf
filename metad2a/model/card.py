"""The model card: what a model was trained on, what it reaches, and where not to trust it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from metad2a.model.description import STATISTICS
from metad2a.model.figures import Figures
from metad2a.model.meta_training import MetaTask
from metad2a.model.records import Record


def _span(tasks: Sequence[MetaTask], statistic: str) -> str:
    """Return the range over tasks of a statistic that is the logarithm of a number."""
    place = STATISTICS.index(statistic)
    found = [round(10 ** float(task.redraws[0].statistics[place])) for task in tasks]
    return f"{min(found):,} to {max(found):,}"


def model_card(
    space: str, protocol: str, records: Sequence[Record], tasks: Sequence[MetaTask],
    figures: Figures,
) -> str:
    """Return the card as Markdown with the Hub's metadata block."""
    families: dict[str, set[str]] = {}
    for task in tasks:
        families.setdefault(task.family, set()).add(task.dataset)
    datasets = "\n".join(
        f"| {family} | {', '.join(sorted(names))} | "
        f"{figures.by_family.get(family, float('nan')):.0%} |"
        for family, names in sorted(families.items())
    )
    labels = "\n".join(
        f"| {name} | {count:,} |" for name, count in sorted(
            Counter(r.protocol for r in records).items())
    )
    return f"""---
license: apache-2.0
library_name: metad2a
tags: [neural-architecture-search, meta-learning, {space}]
---
# MetaD2A for {space}

A set encoder, a graph generator and a meta performance predictor. Given labelled images it
generates cells of the space `{space}` and predicts the test accuracy that each would reach under
the protocol `{protocol}`, with a 90 % interval.

```python
from metad2a import suggest
print(suggest("my_images.zip"))
```

## What it was trained on

{len(records):,} measurements on {len(tasks)} tasks (class subsets, sizes and resolutions) of the
datasets below. No image is in this folder. CIFAR-10 was never used.

| protocol | rows |
|---|---|
{labels}

| family | datasets | its trainings inside the 90 % interval when the family was left out |
|---|---|---|
{datasets}

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
"""
