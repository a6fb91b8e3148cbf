"""What every labelled image set answers, whatever form it came in."""

from __future__ import annotations

import contextlib
import hashlib
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from metad2a.datasets.decode import UnreadableImage, decode, spread, square
from metad2a.datasets.layout import Listing, Unused, Wish
from metad2a.datasets.levels import LOOKED, Levels, Spread, levels_of
from metad2a.errors import InputError
from metad2a.registry import Registry
from metad2a.settings import LIMITS, OWN, Limits


class ImageDataset(ABC):
    """Labelled images, listed at once and decoded one by one on demand."""

    name: str
    form: str
    """Name of the :class:`DatasetForm` that opened it."""
    classes: tuple[str, ...]
    """Class names, in the order of their indices; every one has an image."""
    labels: np.ndarray
    """int64 (N,): class index of every image."""
    split: np.ndarray
    """int8 (N,): 0 = train or unspecified, 1 = validation or test."""
    threads = True
    """Whether several threads may decode at a time."""
    limits: Limits = OWN
    """Of the size of its images: those of a user's own files, or of strangers'."""
    notes: tuple[str, ...] = ()
    """What the listing left out or decided, a sentence each; the report repeats them."""
    unused: tuple[Unused, ...] = ()
    """Folders and files that give no image, and why."""
    layouts: tuple[str, ...] = ()
    """Names of the layouts by which a tree was read, outermost first."""
    kinds: Mapping[str, int] = MappingProxyType({})
    """Files beside that are no images, by their endings."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def image(self, index: int) -> np.ndarray:
        """Decode an image to uint8 (height, width, 3), RGB.

        Raises:
            UnreadableImage: it cannot be decoded; the message is the reason.
        """

    @abstractmethod
    def locate(self, index: int) -> str:
        """Return the name under which an image appears in reports."""

    def spread(self, index: int) -> Spread | None:
        """Measure the values of an image with more than 8 bits; None for any other.

        Raises:
            UnreadableImage: it cannot be decoded.
        """
        return None

    def levels(self) -> Levels:
        """Return black and white of the images with more than 8 bits, one rule for all of them."""
        if self.decided is None:
            found = []
            for index in np.unique(np.linspace(0, len(self) - 1, LOOKED).astype(int)):
                with contextlib.suppress(UnreadableImage):
                    found.append(self.spread(int(index)))
            self.decided = levels_of(one for one in found if one is not None)
        return self.decided

    decided: Levels | None = None
    """What :meth:`levels` has returned; None where no image has asked for it yet."""

    def content(self, index: int) -> bytes:
        """Return the bytes that identify an image; none stand for an unreadable one."""
        try:
            image = self.image(index)
        except UnreadableImage:
            return b""
        return repr(image.shape).encode() + image.tobytes()

    def reduced(self, index: int, side: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode an image, perhaps smaller than stored but with no side cut below ``side``.

        Returns:
            uint8 (height, width, 3) RGB, and the stored (height, width) in pixels.

        Raises:
            UnreadableImage: it cannot be decoded.
        """
        image = self.image(index)
        return image, (image.shape[0], image.shape[1])

    def square(self, index: int, side: int) -> np.ndarray:
        """Decode an image to uint8 (side, side, 3) as :func:`metad2a.datasets.decode.square` does.

        Raises:
            UnreadableImage: it cannot be decoded.
        """
        return square(self.reduced(index, 2 * side)[0], side)

    def shuffled(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the order, int64 (n,), in which a pass visits int64 (n,) ``indices``.

        A form whose images cannot be had one by one keeps those together that are stored together.
        """
        return rng.permutation(len(indices))

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of images, labels, split and class names.

        It reads every image once, decodes none of those in files, and is the same in any process.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.split, dtype="i1").tobytes())
        for index in range(len(self)):
            digest.update(hashlib.sha256(self.content(index)).digest())
        return digest.hexdigest()

    def take(self, listing: Listing) -> None:
        """Take over what a layout has made of a tree."""
        self.labels, self.classes, self.split = listing.labels, listing.classes, listing.split
        self.notes, self.unused = listing.notes, listing.unused
        self.layouts, self.kinds = listing.layouts, listing.kinds

    def close(self) -> None:  # noqa: B027  (most forms have nothing to do)
        """Let go of whatever file is held open; the default holds none."""

    def __copy__(self) -> ImageDataset:
        """Share the open files; only a pickled dataset opens its own."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def __enter__(self) -> ImageDataset:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EncodedDataset(ImageDataset):
    """An image set whose images are the bytes of image files."""

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file.

        Raises:
            UnreadableImage: they cannot be had.
        """

    def image(self, index: int) -> np.ndarray:
        """Decode an image to uint8 (height, width, 3), RGB."""
        return decode(self.encoded(index), None, self.levels, self.limits, self._ending(index))[0]

    def reduced(self, index: int, side: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode an image, a large JPEG at a fraction of its size."""
        return decode(self.encoded(index), side, self.levels, self.limits, self._ending(index))

    def _ending(self, index: int) -> str:
        """Return the ending of the file's name, in lower case."""
        return PurePosixPath(self.locate(index)).suffix.lower()

    def spread(self, index: int) -> Spread | None:
        """Measure the values of an image with more than 8 bits; None for any other."""
        return spread(self.encoded(index), self.limits)

    def content(self, index: int) -> bytes:
        """Return the file's bytes, or nothing where they cannot be had."""
        try:
            return self.encoded(index)
        except UnreadableImage:
            return b""


def read_image_file(path: Path, limits: Limits = LIMITS) -> bytes:
    """Return the bytes of an image file, unless it is too large or no plain file.

    Raises:
        UnreadableImage: it cannot be had.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # Reading a pipe would wait for ever.
            raise UnreadableImage("not a file")
        if status.st_size > limits.image_bytes:
            raise UnreadableImage(
                f"{status.st_size / 2**20:.0f} MiB, more than the limit of "
                f"{limits.image_bytes / 2**20:.0f} MiB"
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # A name that no file can have.
        raise UnreadableImage("cannot be read: no such file") from error


class DatasetForm(ABC):
    """One way in which labelled images are stored or handed over."""

    name: str
    """How reports call it."""
    wanted: str
    """What it looks like, for the message that says what could have been given."""
    general = False
    """Whether it takes whatever no other form knows: it is asked after those that are not."""
    arranged = False
    """Whether it is a tree of files, of which the user may say how it is arranged."""
    for_strangers = True
    """Whether a stranger's file may be opened in this process."""

    @abstractmethod
    def accepts(self, source: Any) -> bool:
        """Whether ``source`` is of this form; paths come as existing :class:`pathlib.Path`."""

    @abstractmethod
    def open(self, source: Any) -> ImageDataset:
        """List the images of an accepted source.

        Raises:
            InputError: it cannot be used.
        """

    def open_as(self, source: Any, wish: Wish) -> ImageDataset:
        """List the images of an accepted source that is arranged as the user says.

        Raises:
            InputError: it cannot be used, or is not :attr:`arranged`.
        """
        raise InputError(
            f"A {self.name} brings its own labels and sides. Leave out layout, classes_at and "
            "split, which are for folders and archives."
        )


FORMS: Registry[DatasetForm] = Registry("dataset form", "metad2a.datasets.forms")
