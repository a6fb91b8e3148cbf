"""One sentence for every word that not everyone knows."""

from __future__ import annotations

from html import escape

HINTS = {
    "accuracy": "Out of 100 new images, how many the trained network is expected to name right.",
    "interval": "The accuracy lies in this range in 9 of 10 cases. A wide range means that the "
    "prediction is unsure.",
    "file": "Of the trained network, at four bytes a parameter.",
    "parameters": "The numbers that a network learns. Fewer need less memory and make a smaller "
    "file.",
    "MACs": "Multiply-adds: the work that one image takes. Half as many run about twice as fast.",
    "resolution": "The side, in pixels, that pictures are brought to before the network sees them.",
    "front": "The best accuracy to be had for so many MACs: no network is both cheaper and better.",
    "measured": "Found by training on your images here, on images that were held out.",
    "balanced": "The mean over the classes of what is named right: a class with few images counts "
    "as much as one with many.",
    "distance": "How different that dataset is from yours, in the model's eyes; 0 is the same.",
}


def hint(word: str, key: str | None = None) -> str:
    """Return a word that tells its meaning when pointed at; :func:`glossary` tells it to all."""
    return f'<abbr title="{escape(HINTS[key or word])}">{escape(word)}</abbr>'


def glossary() -> str:
    """Return all the words with their meanings, folded away until asked for."""
    words = "".join(
        f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in HINTS.items()
    )
    return (
        f'<details class="fold"><summary>What do these words mean?</summary><dl>{words}</dl>'
        "</details>"
    )
