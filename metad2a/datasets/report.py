"""What was read of a dataset, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_LISTED = 5


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
        return " ".join(["; ".join(parts) + ("." if self.notes else ""), *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return {
            **asdict(self),
            "skipped": [asdict(entry) for entry in self.skipped],
            "notes": list(self.notes),
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
