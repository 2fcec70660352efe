"""An archive becomes files again, by several threads, and nothing of it lands elsewhere."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest

from upkeep.adapters.physical_unpack import extract
from upkeep.adapters.physical_zstd import Codec, Gzip, best
from upkeep.core.errors import DamagedError

FRAME = 50_000


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, **more: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o700 if kind == tarfile.DIRTYPE else 0o600
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def blocks(data: bytes, codec: Codec, step: int = 7001) -> Generator[bytes]:
    packed = b"".join(codec.compress(data[at : at + FRAME], 1) for at in range(0, len(data), FRAME))
    yield from (packed[at : at + step] for at in range(0, len(packed), step))


@pytest.mark.parametrize("codec", [best(), Gzip()], ids=lambda c: c.suffix)
def test_files_of_all_sizes_come_back(codec: Codec, tmp_path: Path) -> None:
    """Larger than many frames, empty, thousands in one frame; folders that are named and such that are not."""
    dice = random.Random(3)
    content = {f"base/5/{n}": dice.randbytes(dice.choice((0, 1, 511, 512, 8192))) for n in range(700)}
    content |= {"base/5/large": dice.randbytes(1_234_567), "PG_VERSION": b"18\n"}
    made = archive(member("pg_notify", kind=tarfile.DIRTYPE), *(member(name, data) for name, data in content.items()))
    extract(lambda: blocks(made, codec), codec, tmp_path / "data", "store/x")
    back = {
        path.relative_to(tmp_path / "data").as_posix(): path.read_bytes()
        for path in (tmp_path / "data").rglob("*") if path.is_file()
    }  # fmt: skip
    assert back == content
    assert (tmp_path / "data/pg_notify").is_dir()
    assert (tmp_path / "data/PG_VERSION").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "wrong",
    [
        member("../outside", b"x"),
        member("/outside", b"x"),
        member("base/../../outside", b"x"),
        member("link", kind=tarfile.SYMTYPE, linkname="/etc"),
        member("link", kind=tarfile.LNKTYPE, linkname="../outside"),
        member("pipe", kind=tarfile.FIFOTYPE),
    ],
    ids=lambda m: m[0].name,
)
def test_nothing_leads_out_of_the_folder(wrong: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    """Names outside, links and special files are refused, and named."""
    codec = best()
    with pytest.raises(DamagedError, match=wrong[0].name):
        extract(lambda: blocks(archive(member("a", b"1"), wrong), codec), codec, tmp_path / "data", "store/x")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("left", [700_000, 300, 0])
def test_an_archive_that_ends_early_is_no_archive(left: int, tmp_path: Path) -> None:
    """In a file, in a header, or before it began."""
    codec, data = best(), archive(member("base/5/large", random.Random(4).randbytes(1_000_000)))
    with pytest.raises(DamagedError, match="store/x"):
        extract(lambda: blocks(data[:left], codec), codec, tmp_path / "data", "store/x")


def test_the_first_error_is_told_and_the_source_is_closed(tmp_path: Path) -> None:
    """What fails while fetching is raised as it was, when no thread works any longer."""
    codec, closed = best(), []

    def broken() -> Generator[bytes]:
        try:
            yield from blocks(archive(member("large", bytes(900_000))), codec, 100)
            raise DamagedError("piece 3 differs from its manifest", "look")
        finally:
            closed.append(True)

    with pytest.raises(DamagedError, match="piece 3"):
        extract(broken, codec, tmp_path / "data", "store/x")
    assert closed


def test_a_place_without_room_is_no_damage(tmp_path: Path) -> None:
    """Errors of the own disk are told as such: nothing is wrong with the backup."""
    codec = best()
    (tmp_path / "data").mkdir()
    with pytest.raises(FileExistsError):
        extract(lambda: blocks(archive(member("a", b"1")), codec), codec, tmp_path / "data", "store/x")
