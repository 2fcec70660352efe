"""The manifest: its bytes, its hash, and how proofs are compared."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from upkeep.core import backup as core
from upkeep.core.backup import FileEntry, LargeObjects, Manifest, SequenceValue, Source, TableProof, differences
from upkeep.core.errors import DamagedError

WHEN = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
SOURCE = Source(
    version="18.6", version_num=180006, database="shop", in_recovery=False, lsn="0/16B3748", snapshot_time=WHEN,
    encoding="UTF8", lc_collate="C", lc_ctype="C", collation_version=None, collation_version_now=None, size_bytes=10**9,
    extensions={"plpgsql": "1.0"},
)  # fmt: skip


def proof(name: str, rows: int = 1, digest: int = 7, root: str | None = None, writes: int = 0) -> TableProof:
    return TableProof(
        oid=abs(hash(name)) % 10**6, name=("public", name), root=("public", root) if root else None, rows=rows,
        hash=str(digest), bytes=8192, writes=writes,
    )  # fmt: skip


def manifest(*tables: TableProof, **changes: object) -> Manifest:
    made = Manifest(
        id="20261121T010203Z-0123abcd", target="shop/db", run_id="run", started=WHEN, finished=WHEN, source=SOURCE,
        tools={"pg_dump": "18.6"}, settings={"jobs": 2}, tables=tables or (proof("a"),),
        files=(FileEntry(name="toc.dat", size=3, sha256="0" * 64),), large_objects=LargeObjects(),
        sequences=(SequenceValue(name="public.s", last_value=5, is_called=True),),
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_another_format_is_told_and_not_called_damage() -> None:
    """A whole manifest of another version says what to do with its backup."""
    older = {"format": "upkeep-backup/1", "id": "20251121T010203Z-0123abcd"}
    with pytest.raises(DamagedError, match="has the format 'upkeep-backup/1', expected 'upkeep-backup/2'") as told:
        core.decode(core._canonical({"manifest": older, "sha256": core.digest(older)}) + b"\n", "here")
    assert "by hand" in (told.value.hint or "")


def test_what_is_written_is_what_is_read() -> None:
    """Encoding and decoding a manifest changes nothing, and writing it twice gives the same bytes."""
    made = manifest(proof('snow ☃ " \n', digest=-(2**70)))
    assert core.decode(core.encode(made), "here") == made
    assert core.encode(core.decode(core.encode(made), "here")) == core.encode(made)


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x20])
def test_every_altered_byte_is_noticed(mask: int) -> None:
    """Whatever single byte of manifest.json is altered, reading it fails."""
    data = core.encode(manifest())
    for at in range(len(data)):
        altered = bytes([*data[:at], data[at] ^ mask, *data[at + 1 :]])
        with pytest.raises(DamagedError):
            core.decode(altered, "here")


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data.replace(b'"sha256":', b'"sha256": ', 1),
        lambda data: b"",
        lambda data: b"[]\n",
        lambda data: b"null\n",
        lambda data: b'{"manifest":{},"sha256":"x"}\n',
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'{"manifest"', b'{"manifest":1,"manifest"', 1),
    ],
)
def test_what_is_no_manifest_is_refused(harm: object) -> None:
    """Cut, lengthened, reformatted, empty or foreign JSON is damage that names the place, not a crash."""
    with pytest.raises(DamagedError, match="here"):
        core.decode(harm(core.encode(manifest())), "here")  # type: ignore[operator]


def test_file_names_cannot_leave_the_backup() -> None:
    """A manifest cannot name a file outside its own folder."""
    for name in ("../x", "/etc/passwd", "a/b", ".hidden", ""):
        with pytest.raises(ValueError, match="name"):
            FileEntry(name=name, size=0, sha256="0" * 64)


def test_content_hash_sees_content_only() -> None:
    """Two backups of the same rows have one content hash, whatever their times, files and counters of writes."""
    one, two = manifest(proof("a", writes=1)), manifest(proof("a", writes=9), finished=datetime.now(UTC))
    assert one.content_sha256 == two.content_sha256
    assert one.content_sha256 != manifest(proof("a", digest=8)).content_sha256


def test_equal_proofs_do_not_differ_and_lost_tables_do() -> None:
    """A table with other rows, one that is lost and one that is new are each named."""
    left = [proof("a"), proof("b"), proof("c")]
    assert differences(left, left[::-1]) == ()
    right = [proof("a", digest=8), proof("b"), proof("d")]
    assert [d.name[1] for d in differences(left, right)] == ["a", "c", "d"]


def test_rows_that_moved_to_another_leaf_are_the_same_rows() -> None:
    """Leaves of one partitioned table may exchange rows; their sum may not change."""
    left = [proof("p0", 3, 10, "p"), proof("p1", 2, 5, "p")]
    assert differences(left, [proof("p0", 1, 4, "p"), proof("p1", 4, 11, "p")]) == ()
    assert [d.name[1] for d in differences(left, [proof("p0", 1, 4, "p"), proof("p1", 4, 12, "p")])] == ["p0", "p1"]
