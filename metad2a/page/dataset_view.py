"""What was read of a dataset, as HTML. All names in it may be anybody's, so all are escaped."""

from __future__ import annotations

from html import escape

from metad2a.page.charts import bars
from metad2a.page.described import Described

_BARS = 40
_LISTED = 100
_LONG = 120


def dataset_view(described: Described) -> str:
    """Return figures, notes, sample images, class balance, doubtful labels and skipped files."""
    return (
        '<section class="m2"><h2>What was read</h2>'
        + _facts(described)
        + _notes(described)
        + f'<div class="pair">{_samples(described)}{_balance(described)}</div>'
        + _doubts(described)
        + _twins(described)
        + _skipped(described)
        + "</section>"
    )


def _facts(described: Described) -> str:
    report = described.report
    least, median, most = report.sizes
    sides = f"{median:,} px" if least == most else f"{least:,}–{most:,} px"
    facts = [
        (f"{report.images:,}", "images"),
        (f"{report.classes:,}", "classes"),
        (sides, "side length"),
        ("gray" if report.gray else "colour", "pictures"),
        (
            f"{len(report.skipped):,}",
            "files skipped" if len(report.skipped) != 1 else "file skipped",
        ),
    ]
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in facts
    )
    split = (
        f" Of the images, {report.split[1]:,} are marked for validation or test."
        if report.split[1]
        else ""
    )
    return (
        f'<p class="lead"><b>{_name(report.name)}</b> ({escape(report.form)}), '
        f'{report.checked:,} images looked at.{split}</p><div class="facts">{tiles}</div>'
    )


def _samples(described: Described) -> str:
    rows = "".join(
        f'<span class="name" title="{_name(name)}">{_name(name)}</span>'
        f'<span class="strip">{"".join(_image(uri, name) for uri in images)}</span>'
        for (name, _), images in zip(described.counts, described.samples, strict=False)
    )
    rest = len(described.counts) - len(described.samples)
    more = f'<p class="more">and {rest:,} more classes</p>' if rest else ""
    return (
        f'<figure class="card"><figcaption><b>Some of the images</b></figcaption>'
        f'<div class="samples">{rows}</div>{more}</figure>'
    )


def _balance(described: Described) -> str:
    counts = sorted(described.counts, key=lambda one: -one[1])
    shown = counts
    between = ""
    if len(counts) > _BARS:
        shown = [*counts[: _BARS // 2], *counts[-_BARS // 2 :]]
        between = (
            f'<p class="more">the {_BARS // 2} largest and the {_BARS // 2} smallest of '
            f"{len(counts):,} classes</p>"
        )
    few, many = counts[-1][1], counts[0][1]
    words = (
        "All classes have about as many images."
        if many < 1.5 * few
        else f"The largest class has {many / few:,.0f} times the images of the smallest."
        if many >= 2 * few
        else "The classes differ a little in size."
    )
    return (
        f'<figure class="card"><figcaption><b>Images of each class</b>{words}</figcaption>'
        f"{bars([(_cut(name), count) for name, count in shown])}{between}</figure>"
    )


def _notes(described: Described) -> str:
    """Return what the listing decided and what is wrong with the images, in words."""
    quality = described.report.quality
    notes = (*described.report.notes, *(quality.notes() if quality else ()))
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">{lines}</ul>' if notes else ""


def _doubts(described: Described) -> str:
    """Return the pictures whose labels the other images speak against."""
    quality = described.report.quality
    if quality is None or not quality.doubts:
        return ""
    pictures = "".join(
        '<figure class="doubt">'
        + (_image(uri, one.name) if uri else "")
        + f'<figcaption title="{_name(one.name)}">{_name(one.label)}, or '
        f"<b>{_name(one.likelier)}</b>? {one.probability:.0%}</figcaption></figure>"
        for one, uri in zip(quality.doubts, described.doubted, strict=False)
    )
    return (
        '<figure class="card"><figcaption><b>Labels in doubt</b>What a classifier fitted to the '
        f"other images takes these for, of {quality.judged:,} that it was asked about."
        f'</figcaption><div class="doubts">{pictures}</div></figure>'
    )


def _twins(described: Described) -> str:
    quality = described.report.quality
    if quality is None or not quality.twins:
        return ""
    lines = "".join(f"<li>{escape(str(one))}</li>" for one in quality.twins)
    pairs = "1 pair" if len(quality.twins) == 1 else f"{len(quality.twins):,} pairs"
    return (
        f'<details class="fold"><summary>{pairs} of pictures that are the same, or nearly'
        f"</summary><ul>{lines}</ul></details>"
    )


def _skipped(described: Described) -> str:
    skipped = described.report.skipped
    if not skipped:
        return ""
    lines = "".join(
        f"<li><code>{_name(one.name)}</code> {escape(one.reason)}</li>" for one in skipped[:_LISTED]
    )
    rest = len(skipped) - _LISTED
    more = f"<li>and {rest:,} more</li>" if rest > 0 else ""
    files = "1 file was" if len(skipped) == 1 else f"{len(skipped):,} files were"
    return (
        f'<details class="fold"><summary>{files} skipped</summary><ul>{lines}{more}</ul></details>'
    )


def _image(uri: str, name: str) -> str:
    return f'<img src="{uri}" alt="{_name(name)}">'


def _cut(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"


def _name(name: str) -> str:
    return escape(_cut(name))
