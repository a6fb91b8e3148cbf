"""What was read of a dataset, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from metad2a.datasets.layout import Unused

if TYPE_CHECKING:
    from metad2a.datasets.quality import Quality

_LISTED = 5
_SHOWN = 50
"""Lines of what is not used."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be decoded, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class DatasetReport:
    """What was understood of a dataset."""

    name: str
    form: str
    images: int
    """Usable images: those listed less those found unreadable."""
    classes: int
    skipped: tuple[Skipped, ...]
    """The unreadable ones among those looked at."""
    checked: int
    """Images looked at, readable or not."""
    smallest_class: tuple[str, int]
    """Name and listed images."""
    largest_class: tuple[str, int]
    sizes: tuple[int, int, int]
    """Least, median and greatest side, in pixels, of the images decoded."""
    gray: bool
    """Whether every image decoded is gray: its three channels are equal."""
    split: tuple[int, int]
    """Listed images for training (or unspecified), and for validation or test."""
    notes: tuple[str, ...] = ()
    """What the listing left out or decided, a sentence each."""
    class_counts: tuple[tuple[str, int, int], ...] = ()
    """Every class, and its listed images for training (or unspecified) and for validation or test."""
    unused: tuple[Unused, ...] = ()
    """Folders and files that give no image, and why."""
    layouts: tuple[str, ...] = ()
    """Names of the layouts by which a tree was read, outermost first."""
    quality: Quality | None = None
    """Copies, pictures alike and labels in doubt; None where none were looked for."""
    other_files: tuple[tuple[str, int], ...] = ()
    """Files of a tree that are no images that can be read: endings, and how many there are."""

    def __str__(self) -> str:
        least, median, most = self.sizes
        sides = (
            f"{least:,} px" if least == most else (f"{least:,} to {most:,} px (median {median:,})")
        )
        (few, fewest), (many, most_images) = self.smallest_class, self.largest_class
        balance = (
            f"{fewest:,}"
            if fewest == most_images
            else (f"{fewest:,} ({few}) to {most_images:,} ({many})")
        )
        parts = [
            f"{self.images:,} images, {self.classes:,} classes ({self.form})",
            f"{balance} images a class",
            f"sides {sides}, {'gray' if self.gray else 'colour'}",
        ]
        if self.split[1]:
            parts.append(f"{self.split[0]:,} train, {self.split[1]:,} validation or test")
        if self.checked < self.images + len(self.skipped):
            parts.append(f"{self.checked:,} of them looked at")
        if self.skipped:
            files = "file" if len(self.skipped) == 1 else "files"
            parts.append(
                f"{len(self.skipped):,} unreadable {files} skipped: {list_skipped(self.skipped)}"
            )
        notes = (*self.notes, *(self.quality.notes() if self.quality else ()))
        return " ".join(["; ".join(parts) + ("." if notes else ""), *notes])

    def details(self) -> str:
        """Return the classes with their counts, and what is not used and why, in lines."""
        width = min(40, max((len(name) for name, _, _ in self.class_counts), default=0))
        lines = ["Classes:"]
        for name, train, test in self.class_counts:
            sides = f" ({train:,} train, {test:,} validation or test)" if self.split[1] else ""
            lines.append(f"  {name:{width}}  {train + test:>7,}{sides}")
        if self.unused:
            lines += ["Not used:", *(f"  {one}" for one in self.unused[:_SHOWN])]
            if len(self.unused) > _SHOWN:
                lines.append(f"  and {len(self.unused) - _SHOWN:,} more; --json lists all")
        if self.other_files:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.other_files[:_SHOWN])
            lines.append(f"Other files: {kinds}")
        if self.quality:
            lines += self.quality.lines()
        if self.layouts:
            lines.append(f"Layout: {', '.join(self.layouts)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return {
            **asdict(self),
            "skipped": [asdict(entry) for entry in self.skipped],
            "notes": list(self.notes),
            "quality": None if self.quality is None else self.quality.to_dict(),
            "class_counts": [
                {"name": name, "images": train + test, "train": train, "test": test}
                for name, train, test in self.class_counts
            ],
            "unused": [asdict(one) for one in self.unused],
            "layouts": list(self.layouts),
            "other_files": dict(self.other_files),
            "smallest_class": {"name": self.smallest_class[0], "images": self.smallest_class[1]},
            "largest_class": {"name": self.largest_class[0], "images": self.largest_class[1]},
            "sizes": dict(zip(("least", "median", "greatest"), self.sizes, strict=True)),
            "split": {"train": self.split[0], "test": self.split[1]},
        }


def list_skipped(skipped: tuple[Skipped, ...]) -> str:
    """Return the first few as one line that says how many more there are."""
    rest = len(skipped) - _LISTED
    return ", ".join(str(entry) for entry in skipped[:_LISTED]) + (
        f", and {rest:,} more" if rest > 0 else ""
    )
