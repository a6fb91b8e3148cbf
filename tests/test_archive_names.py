"""Names in zips that do not say how they are encoded, as programs all over the world write them."""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from archives import picture

from metad2a.datasets import load_dataset
from metad2a.datasets.names import as_texts
from metad2a.errors import InputError


def zipped(names: dict[str, str], encoding: str, extra: bool = False) -> bytes:
    """Return a zip whose folders have names in an old encoding; ``names`` are placeholders to it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number, (stand_in, name) in enumerate(names.items()):
            for i in range(2):
                member = zipfile.ZipInfo(f"{stand_in}/{i}.png")
                if extra:
                    path = f"{name}/{i}.png".encode()
                    head = b"\x01" + struct.pack("<L", zlib.crc32(member.filename.encode()))
                    member.extra = struct.pack("<2H", 0x7075, 5 + len(path)) + head + path
                archive.writestr(member, picture(10 * number + i))
    data = stream.getvalue()
    for stand_in, name in names.items() if not extra else ():
        raw = name.encode(encoding)
        assert len(raw) == len(stand_in)
        data = data.replace(stand_in.encode(), raw)
    return data


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("gbk", ("猫", "狗")),  # of which the first is also UTF-8
        ("gbk", ("轿车", "卡车", "行人")),
        ("cp932", ("表紙", "表示")),  # 0x5C within a letter is no separator
        ("cp932", ("ねこ", "いぬ", "カラス")),
        ("cp949", ("고양이", "강아지")),
        ("big5", ("貓咪", "狗狗")),
        ("cp866", ("кошка", "собака")),
        ("cp437", ("Köln", "Zürich", "Besançon")),
    ],
)
def test_old_encodings(tmp_path: Path, encoding: str, names: tuple[str, ...]) -> None:
    stand_ins = {chr(65 + i) * len(name.encode(encoding)): name for i, name in enumerate(names)}
    path = tmp_path / "x.zip"
    path.write_bytes(zipped(stand_ins, encoding))
    with load_dataset(path) as dataset:
        assert set(dataset.classes) == set(names)
        assert len(dataset) == 2 * len(names)
        if encoding != "cp437":
            assert any(encoding in note for note in dataset.notes)


def test_the_field_for_names_in_unicode(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"cat_": "猫", "dog_": "狗"}, "", extra=True))
    with load_dataset(path) as dataset:
        assert set(dataset.classes) == {"猫", "狗"}
    # Of another name, as after renaming by a program that does not know the field: not believed.
    path.write_bytes(path.read_bytes().replace(b"cat_", b"cow_"))
    with load_dataset(path) as dataset:
        assert set(dataset.classes) == {"cow_", "狗"}


def test_a_name_in_unicode_may_not_lead_out(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped({"cat_": "../../etc", "dog_": "b"}, "", extra=True))
    with pytest.raises(InputError, match="leaves the archive"):
        load_dataset(path)


def test_bytes_in_no_encoding_are_still_names() -> None:
    raws = [b"\xff\xfe\x81", b"a", b"\xc3\xa4"]
    names, guessed = as_texts(raws)
    assert guessed is None
    assert names == [b"\xff\xfe\x81".decode("cp437"), "a", "ä"]
    assert as_texts([]) == ([], None)
    assert re.fullmatch("[a-z]+", as_texts([b"plain"])[0][0])
