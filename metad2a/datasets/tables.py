"""Tables of labels beside images: text in, rows of (file, label, side) out, and the files they mean.

People have them from spreadsheets, scripts, Kaggle and other tools: as CSV, TSV, lines of
``file label``, JSON and JSON lines, in several encodings, with or without a header, with the label
as a text, a number or one-hot columns. The file column and the label column are known by their
names, and where names say nothing by what stands in them. Files may be named from elsewhere: by
absolute paths of another machine, without folder, without ending, in another case.
"""

from __future__ import annotations

import csv
import io
import json
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from metad2a.datasets.decode import EXTENSIONS
from metad2a.datasets.names import as_texts, shown
from metad2a.errors import InputError

SUFFIXES = (".csv", ".tsv", ".txt", ".lst", ".json", ".jsonl", ".ndjson")
"""Endings, in lower case, of files that may be tables of labels."""
MOST_BYTES = 64 * 2**20
"""Bytes of a table."""
MOST_COLUMNS = 1_000
"""Columns of a table."""
_DELIMITERS = ",;\t|"
_LISTED = 5
_LOOKED = 200
"""Rows by which columns are told apart."""
_FILE_NAMES = (
    "filename filenames file image img imagepath imagefile imagefilename imagename imageid imgpath "
    "imgname imgid path filepath picture photo fname relativepath name id uuid key"
)
_CLASSES = 0.95
"""Share of the rows whose field must be a known class to make a column that of the labels."""
FILE_COLUMNS = tuple(_FILE_NAMES.split())
"""Names of the column of files, without signs and in lower case, the surest first."""
_LABEL_NAMES = (
    "label labels labelname class classname category categoryname target species breed diagnosis "
    "dx disease finalbreed groundtruth classid labelid categoryid classlabel finelabel coarselabel tag tags y"
)
LABEL_COLUMNS = tuple(_LABEL_NAMES.split())
"""Names of the column of labels."""
_SIDES = ("split", "set", "subset", "partition", "usage", "phase", "stage", "fold")
"""Names of the column of sides; but for the first they must hold what is known."""
_WANTED = "file_name, label and, if wanted, split"


class Row(NamedTuple):
    """One image of a table."""

    line: int
    """Where the row ends in the file (of a JSON list: which one it is), counted from 1."""
    file: str
    label: str | int | None
    """None where the table says nothing; :func:`metad2a.datasets.labels.read_labels` knows more."""
    split: str


@dataclass(frozen=True)
class Table:
    """The rows of a table, and sentences on how it was read, for the report."""

    rows: list[Row]
    notes: tuple[str, ...] = ()


def read_table(
    data: bytes,
    known: Callable[[str], bool] = lambda name: False,
    is_side: Callable[[str], bool] = lambda text: True,
    is_class: Callable[[str], bool] = lambda text: False,
) -> Table:
    """Read a table of labels.

    Args:
        data: the content of the file.
        known: whether a text names an image that is there.
        is_side: whether a text names a side of the split.
        is_class: whether a text is a class that is known from elsewhere; a column of them counts
            for more than the names of the columns.

    Raises:
        InputError: it is no text, or no table with files and labels, or a row is damaged.
    """
    if len(data) > MOST_BYTES:
        raise InputError(
            f"It has more than {MOST_BYTES / 2**20:.0f} MiB, the limit of a manifest. Split it."
        )
    text, encoding = _text(data)
    notes = [f"It is no UTF-8 text and was read as {encoding}."] if encoding else []
    head = text.lstrip()[:1]
    columns: list[str] | None
    if head == "[":
        columns, records = _of_json(text)
    elif head == "{":
        lines = [line for line in text.split("\n") if line.strip()]
        several = len(lines) > 1 and all(line.strip().startswith("{") for line in lines[:2])
        columns, records = _of_json_lines(text) if several or _is_row(text) else _of_json(text)
    else:
        columns, records = _of_text(text, known)
    return _Columns(columns, records, known, is_side, is_class).table(notes)


def numbers(labels: Sequence[str | int | None]) -> list[str | None] | list[int | None]:
    """Return integers if all labels are, so that 10 comes after 9; else text."""
    texts = [None if label is None else str(label) for label in labels]
    stated = [text for text in texts if text]
    if stated and all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) for text in stated):
        return [int(text) if text else None for text in texts]
    return texts


class Names:
    """The images of a tree, by whatever name a table may have for them.

    Args:
        paths: of the images, relative, with ``/``.
        near: words of folders that are preferred where a name fits several images.
    """

    def __init__(self, paths: Iterable[str], near: Iterable[str] = ()) -> None:
        self._paths = set(paths)
        self._near = {word.lower() for word in near}
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            name = posixpath.basename(path).casefold()
            self._by_name[name].append(path)
            stem = posixpath.splitext(name)[0]
            if stem != name:
                self._by_name[f"{stem}."].append(path)

    def find(self, name: str, side: str = "") -> str | None:
        """Return the path of the image that is meant, or None where it is none or more than one.

        The path is the end of the name, or the name is the end of the path; so a table may come
        from another place, but nothing is taken from a folder other than the one that it names.
        """
        found = self.candidates(name, side)
        return found[0] if len(found) == 1 else None

    def candidates(self, name: str, side: str = "") -> list[str]:
        """Return the paths that the name fits equally well."""
        parts = [part for part in _parts(name) if part not in ("", ".", "..")]
        if not parts:
            return []
        if "/".join(parts) in self._paths:
            return ["/".join(parts)]
        *folders, last = (part.casefold() for part in parts)
        stem, ending = posixpath.splitext(last)
        found = (
            self._by_name.get(last)
            or self._by_name.get(f"{last}.")
            or (self._by_name.get(f"{stem}.") if ending in EXTENSIONS else None)
            or []
        )
        scores = {path: _shared(path, folders) for path in found}
        fitting = [path for path, score in scores.items() if score is not None]
        best = [
            path for path in fitting if scores[path] == max(scores[one] or 0 for one in fitting)
        ]
        for words in ({side.lower()} - {""}, self._near):
            near = [path for path in best if words & set(re.split(r"[/_\W]+", path.lower()))]
            best = near if near else best
        return sorted(best)

    def __contains__(self, name: str) -> bool:
        return bool(self.candidates(name))


def leaves(name: str) -> bool:
    """Whether a name leads out of the folder that it is relative to, as it is written."""
    return name.startswith(("/", "\\")) or "\0" in name or ".." in _parts(name) or _drive(name)


def lines(numbers: Sequence[int]) -> str:
    """Return line numbers for a message, the first few of many."""
    rest = len(numbers) - _LISTED
    return (
        ("line " if len(numbers) == 1 else "lines ")
        + ", ".join(f"{number:,}" for number in numbers[:_LISTED])
        + (f" and {rest:,} more" if rest > 0 else "")
    )


def _parts(name: str) -> list[str]:
    return posixpath.normpath(name.replace("\\", "/")).split("/")


def _drive(name: str) -> bool:  # C:\x, https://x
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name) is not None


def _shared(path: str, folders: Sequence[str]) -> int | None:
    """Return how many folders two paths have in common, if the shorter one is the other's end."""
    own = path.casefold().split("/")[:-1]
    count = min(len(own), len(folders))
    return count if own[len(own) - count :] == folders[len(folders) - count :] else None


# -- text --------------------------------------------------------------------------------------


def _text(data: bytes) -> tuple[str, str | None]:
    """Return the text of a file, and its encoding where that was guessed."""
    wide = next((e for bom, e in _MARKS.items() if data.startswith(bom)), None)
    if wide is None and data[:200].count(0) > len(data[:200]) // 3:
        wide = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text, guessed = data.decode(wide or "utf-8-sig"), None
    except UnicodeDecodeError as error:
        if wide:
            raise InputError(f"It is no text in {wide.upper()}. Save it as UTF-8.") from error
        text, guessed = _guessed(data)
    if "\0" in text[:10_000] and not text.lstrip().startswith("{"):
        raise InputError("It is no text: there is a zero byte in it. Save it as UTF-8 text.")
    return text, guessed


_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""What files in 16 bits a character begin with."""


def _guessed(data: bytes) -> tuple[str, str]:
    """Return a text that is no UTF-8 in the code page that fits it best."""
    foreign = [line for line in data.splitlines() if not line.isascii()][:_LOOKED]
    _, encoding = as_texts(foreign)
    if encoding in ("cp932", "cp949", "gbk", "big5"):
        order: tuple[str, ...] = (encoding,)
    else:
        # Letters of a foreign script come in a row, accents of western ones by themselves.
        joined = b"\n".join(foreign)
        alone = len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", joined))
        foreign_letters = sum(byte > 127 for byte in joined)
        order = ("cp1252", "cp1251") if 2 * alone > foreign_letters else ("cp1251", "cp1252")
    for one in (*order, "latin-1"):
        try:
            return data.decode(one), one
        except UnicodeDecodeError:
            continue
    raise AssertionError("latin-1 reads everything")


def _of_text(text: str, known: Callable[[str], bool]) -> tuple[list[str] | None, list[_Record]]:
    """Return the columns, if there is a header, and the records of lines of text."""
    delimiter = None
    told = re.match(r"sep=(.)\r?\n", text)  # as Excel writes
    if told:
        delimiter, text = told[1], text[told.end() :]
    head = text.lstrip("\r\n").split("\n", 1)[0]
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=head.count)
        if not head.count(delimiter):
            return _of_words(text, known)
    records = list(_csv(text, delimiter, skipped=1 if told else 0))
    if not records:
        return [], []
    first = [str(value).strip() for value in records[0].values]
    named = any(plain(name) in (*FILE_COLUMNS, *LABEL_COLUMNS) for name in first)
    pictures = any(_is_picture(value) or (not named and known(value)) for value in first)
    if pictures and not (named and plain(first[0]) in FILE_COLUMNS):
        return None, records
    return first, records[1:]


class _Record(NamedTuple):
    line: int
    values: Sequence[Any]


def _csv(text: str, delimiter: str, skipped: int) -> Iterator[_Record]:
    # Strict: a quote that is never closed would otherwise swallow the rest of the file.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    width = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            line = reader.line_num + skipped
            if width is None:
                width = len(fields)
                _refuse_width(width)
            if len(fields) != width:
                raise InputError(
                    f"Line {line:,} has {len(fields):,} fields, but the first has {width:,}. "
                    "Put text that holds the separator in double quotes."
                )
            yield _Record(line, [field.strip() for field in fields])
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num + skipped:,} is no CSV ({str(error)[:100]}). Mend the line."
        ) from error


def _of_words(text: str, known: Callable[[str], bool]) -> tuple[list[str] | None, list[_Record]]:
    """Return records of lines of words, such as ``images/my cat.jpg 0``."""
    endings = "|".join(re.escape(ending) for ending in sorted(EXTENSIONS))
    named = re.compile(rf"(.+(?:{endings}))\s+(.*)", re.IGNORECASE)
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            picture = named.fullmatch(line.strip())
            words = [picture[1], *picture[2].split()] if picture else line.split()
            found.append(_Record(number, words))
    if not found:
        return [], []
    width = len(found[0].values)
    _refuse_width(width)
    other = [record.line for record in found if len(record.values) != width]
    if other:
        raise InputError(
            f"{len(other):,} lines have another number of words than the first: {lines(other)}. "
            "Write one image a line, as in: images/1.png cat"
        )
    first = [str(value) for value in found[0].values]
    if any(_is_picture(value) or known(value) for value in first):
        return None, found
    return first, found[1:]


def _refuse_width(width: int) -> None:
    if width > MOST_COLUMNS:
        raise InputError(
            f"The first line has {width:,} columns, more than the limit of {MOST_COLUMNS:,}. "
            f"Keep {_WANTED}."
        )


# -- JSON --------------------------------------------------------------------------------------


def _is_row(text: str) -> bool:
    """Whether a text is one JSON object that is a row of a table, and not a table itself."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return True  # Lines of JSON tell which of them is broken.
    return isinstance(found, Mapping) and any(plain(key) in FILE_COLUMNS for key in found)


def _of_json_lines(text: str) -> tuple[list[str], list[_Record]]:
    found: list[tuple[int, Mapping[str, Any]]] = []
    broken = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, Mapping):
            found.append((number, record))
        else:
            broken.append(number)
    if broken:
        raise InputError(
            f"{len(broken):,} rows hold no JSON object: {lines(broken)}. Each line must be one, as "
            'in {"file_name": "a/1.png", "label": "a"}.'
        )
    return _of_mappings(found)


def _of_json(text: str) -> tuple[list[str], list[_Record]]:
    """Return records of a list of objects or pairs, or of one object, file to label or the reverse."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"It is no JSON ({str(error)[:100]}). Write it again.") from error
    if isinstance(found, Mapping):
        lists = [value for value in found.values() if isinstance(value, list)]
        if len(found) == 1 and lists and all(isinstance(v, (dict, list)) for v in lists[0]):
            found = lists[0]  # {"labels": [...]}
        elif len(lists) == len(found) and all(isinstance(v, str) for one in lists for v in one):
            found = [(file, label) for label, files in found.items() for file in files]
        elif all(isinstance(value, (str, int)) for value in found.values()):
            found = list(found.items())
    if isinstance(found, list) and all(isinstance(one, Mapping) for one in found):
        return _of_mappings(list(enumerate(found, 1)))
    if isinstance(found, list) and all(
        isinstance(one, (list, tuple)) and len(one) == 2 for one in found
    ):
        return ["file_name", "label"], [_Record(i, one) for i, one in enumerate(found, 1)]
    raise InputError(
        'It is no list of labels. Write [{"file_name": "a/1.png", "label": "a"}, ...], or '
        '{"a/1.png": "a", ...}.'
    )


def _of_mappings(found: list[tuple[int, Mapping[str, Any]]]) -> tuple[list[str], list[_Record]]:
    columns = list(dict.fromkeys(str(key) for _, record in found for key in record))
    _refuse_width(len(columns))
    return columns, [_Record(i, [record.get(key) for key in columns]) for i, record in found]


# -- columns -----------------------------------------------------------------------------------


class _Columns:
    """Which column holds what: by their names, and by what stands in them."""

    def __init__(
        self,
        names: list[str] | None,
        records: list[_Record],
        known: Callable[[str], bool],
        is_side: Callable[[str], bool],
        is_class: Callable[[str], bool],
    ) -> None:
        if not records:
            raise InputError(
                f"There is no row in it. Write one image a line below the names {_WANTED}."
            )
        self.names = names
        self.records = records
        self.is_side, self.is_class = is_side, is_class
        self.width = len(records[0].values)
        self.plain = [plain(name) for name in names or [""] * self.width]
        self.looked = records[:: max(1, len(records) // _LOOKED)]
        self.file = self._file(known)
        self.side = self._side()

    def table(self, notes: list[str]) -> Table:
        """Return the rows."""
        label = self._label(notes)
        labels: list[Any] = (
            [record.values[label] for record in self.records]
            if isinstance(label, int)
            else self._one_hot(label)
        )
        rows, unnamed, odd = [], 0, []
        for record, value in zip(self.records, labels, strict=True):
            file = record.values[self.file]
            if file is None or file == "":
                unnamed += 1
                continue
            side = "" if self.side is None else record.values[self.side]
            good = isinstance(file, (str, int)) and not isinstance(file, bool)
            if not good or not (side is None or isinstance(side, str)):
                odd.append(record.line)
                continue
            rows.append(
                Row(record.line, str(file), self._plain_label(record.line, value), side or "")
            )
        if odd:
            raise InputError(
                f"{len(odd):,} rows hold a file name or a split that is no text: {lines(odd)}. "
                "Mend or remove them."
            )
        if unnamed:
            notes.append(f"{unnamed:,} rows without a file name are left out.")
        return Table(rows, tuple(notes))

    @staticmethod
    def _plain_label(line: int, value: Any) -> str | int | None:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, float):
            if math.isnan(value):
                return None
            value = int(value) if value.is_integer() else str(value)
        if value is None or (isinstance(value, (str, int)) and not isinstance(value, bool)):
            return value
        if isinstance(value, bool):
            return str(value)
        what = "several labels" if isinstance(value, (list, dict)) else "no label"
        raise InputError(
            f"Row {line:,} holds {what} ({str(value)[:60]}). One label an image is learnt: a text "
            "or an integer."
        )

    def values(self, column: int) -> list[str]:
        """Return what stands in a column, as text, in the rows that are looked at."""
        found = (record.values[column] for record in self.looked)
        return ["" if value is None else str(value).strip() for value in found]

    def _share(self, column: int, test: Callable[[str], bool]) -> float:
        values = self.values(column)
        return sum(map(test, values)) / len(values)

    def _file(self, known: Callable[[str], bool]) -> int:
        twice = [name for name in ("filename", "label") if self.plain.count(name) > 1]
        if twice:
            raise InputError(
                f"The first line names a column {twice[0]!r} twice; it names {self._shown()}. "
                f"Name the columns {_WANTED}."
            )
        named = sorted(
            (column for column in range(self.width) if self.plain[column] in FILE_COLUMNS),
            key=lambda column: FILE_COLUMNS.index(self.plain[column]),
        )
        for column in named:
            if self.plain[column] == "filename" or self._share(column, known) >= 0.5:
                return column
        for test in (known, _is_picture):
            for column in range(self.width):
                if self._share(column, test) >= 0.5:
                    return column
        if named:
            return named[0]
        raise InputError(
            f"No column holds the names of images; the first line names {self._shown()}. "
            f"Name the columns {_WANTED}."
        )

    def _side(self) -> int | None:
        for name in _SIDES:
            if self.plain.count(name) == 1:
                column = self.plain.index(name)
                told = [value for value in self.values(column) if value]
                if name == "split" or (told and all(map(self.is_side, told))):
                    return column
        if self.names is None:
            for column in range(self.width):
                told = self.values(column)
                if column != self.file and self.width > 2 and all(map(self.is_side, told)):
                    return column if any(told) else None
        return None

    def _label(self, notes: list[str]) -> int | list[int]:
        """Return the column of labels, or the one-hot columns."""
        rest = [c for c in range(self.width) if c not in (self.file, self.side)]
        rest = [c for c in rest if self._share(c, self.is_class) >= _CLASSES] or rest
        named = sorted(
            (column for column in rest if self.plain[column] in LABEL_COLUMNS),
            key=lambda column: LABEL_COLUMNS.index(self.plain[column]),
        )
        if named:
            return named[0]
        if len(rest) > 1 and all(set(self.values(column)) <= _HOT for column in rest):
            return rest
        classes = [column for column in rest if self._repeats(column)]
        texts = [column for column in classes if not all(map(_is_number, self.values(column)))]
        chosen = rest if len(rest) == 1 else texts if texts else classes
        if len(chosen) == 1 or (self.names is None and chosen):
            if self.names is not None:
                notes.append(f"The labels are those of the column {self.names[chosen[0]]!r}.")
            return chosen[0]
        raise InputError(
            f"No column is called 'label'; the first line names {self._shown()}. "
            f"Name the columns {_WANTED}."
        )

    def _repeats(self, column: int) -> bool:
        values = self.values(column)
        return 1 < len(set(values)) < len(values) and 2 * len(set(values)) <= len(values) + 2

    def _one_hot(self, columns: list[int]) -> list[str | None]:
        names = [self.names[c] if self.names else str(i) for i, c in enumerate(columns)]
        labels: list[str | None] = []
        for record in self.records:
            ones = [
                name
                for name, column in zip(names, columns, strict=True)
                if _is_number(str(record.values[column])) and float(record.values[column]) == 1
            ]
            if len(ones) > 1:
                raise InputError(
                    f"Line {record.line:,} has a 1 in {len(ones):,} columns: several labels of one "
                    "image. One label an image is learnt: keep one of them."
                )
            labels.append(ones[0] if ones else None)
        return labels

    def _shown(self) -> str:
        names = [str(name) for name in self.names or self.records[0].values]
        return (", ".join(shown(name[:40]) for name in names[:_LISTED]) or "nothing") + (
            ", ..." if len(names) > _LISTED else ""
        )


_HOT = frozenset(("0", "1", "0.0", "1.0", "False", "True", "false", "true"))


def plain(name: Any) -> str:
    """Return the name of a column without signs and in lower case."""
    return re.sub(r"[\W_]+", "", str(name)).lower()


def _is_picture(value: str) -> bool:
    return posixpath.splitext(value.lower())[1] in EXTENSIONS


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
