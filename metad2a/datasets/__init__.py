"""Labelled image sets of any form: listing, decoding, sampling and the report on them."""

from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.batch import pixels
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.load import load_dataset
from metad2a.datasets.report import DatasetReport, Skipped
from metad2a.datasets.sampling import Sample, check, draw

__all__ = [
    "FORMS",
    "DatasetForm",
    "DatasetReport",
    "ImageDataset",
    "Sample",
    "Skipped",
    "UnreadableImage",
    "check",
    "draw",
    "load_dataset",
    "pixels",
]
