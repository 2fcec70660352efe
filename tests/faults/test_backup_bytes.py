"""Verification notices every altered, missing or added byte of a stored backup."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.integration.backup_world import World, world
from upkeep.adapters.object_store import read_bytes
from upkeep.core import backup as core
from upkeep.core.backup import FileEntry, Kept

FLIPS = int(os.environ.get("UPKEEP_TEST_FLIPS", "48"))


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        made.database(
            "shop",
            "create table big as select i, md5(i::text) as a from generate_series(1, 300000) as i",
            "create table small as select generate_series(1, 10) as n",
            "create sequence numbers",
            "select lo_from_bytea(0, 'content')",
        )
        yield made


@pytest.fixture(scope="module")
def kept(lab: World) -> Kept:
    return lab.backup()


def key(lab: World, kept: Kept, name: str) -> str:
    return f"{lab.target}/{kept.manifest.id}/{name}"


def test_a_flipped_byte_anywhere_is_noticed(lab: World, kept: Kept) -> None:
    """One byte XOR 0xFF at a random place of any stored file, manifest included: the check names the file."""
    dice = random.Random(2026)
    names = [entry.name for entry in kept.manifest.files] + [core.MANIFEST]
    contents = {name: read_bytes(lab.store, key(lab, kept, name)) for name in names}
    for number in range(FLIPS):
        name = names[number % len(names)]
        data = bytearray(contents[name])
        at = dice.randrange(len(data))
        data[at] ^= 0xFF
        lab.store.write_bytes(key(lab, kept, name), bytes(data))
        seen = lab.check(kept.manifest.id, decode=False)
        assert [(f.check, f.subject) for f in seen.faults] == [
            ("manifest" if name == core.MANIFEST else "integrity", name)
        ], f"byte {at} of {name}"
        lab.store.write_bytes(key(lab, kept, name), contents[name])
    assert lab.check(kept.manifest.id).ok


@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "longer"])
def test_a_file_that_is_not_whole_is_noticed(lab: World, kept: Kept, harm: str) -> None:
    """A missing, emptied, cut or lengthened file is a fault that names it."""
    name = max(kept.manifest.files, key=lambda f: f.size).name
    data = read_bytes(lab.store, key(lab, kept, name))
    harmed = {"empty": b"", "truncated": data[:-1], "longer": data + b"x"}
    if harm == "missing":
        lab.store.delete([key(lab, kept, name)])
    else:
        lab.store.write_bytes(key(lab, kept, name), harmed[harm])
    seen = lab.check(kept.manifest.id)
    lab.store.write_bytes(key(lab, kept, name), data)
    assert ("integrity", name) in {(f.check, f.subject) for f in seen.faults}


def test_an_object_that_nobody_knows_is_noticed(lab: World, kept: Kept) -> None:
    """An object beside the backup's own that its manifest does not name is a fault."""
    lab.store.write_bytes(key(lab, kept, "9999.dat"), b"x")
    seen = lab.check(kept.manifest.id)
    lab.store.delete([key(lab, kept, "9999.dat")])
    assert [f.subject for f in seen.faults] == ["9999.dat"]


def test_the_manifest_of_another_backup_is_not_taken(lab: World, kept: Kept) -> None:
    """A manifest that is sound in itself but belongs to another backup does not make this one sound."""
    own = read_bytes(lab.store, key(lab, kept, core.MANIFEST))
    other = core.encode(kept.manifest.model_copy(update={"id": "20200101T000000Z-0123abcd"}))
    lab.store.write_bytes(key(lab, kept, core.MANIFEST), other)
    seen = lab.check(kept.manifest.id)
    lab.store.write_bytes(key(lab, kept, core.MANIFEST), own)
    assert [f.check for f in seen.faults] == ["manifest"]


def forge(lab: World, kept: Kept, name: str, data: bytes) -> None:
    """Replace a file and its entry in the manifest: as if the dump itself had been bad when it was made."""
    written = lab.store.write_bytes(key(lab, kept, name), data)
    entry = FileEntry(name=name, size=written.size, sha256=written.sha256)
    files = tuple(entry if f.name == name else f for f in kept.manifest.files)
    manifest = kept.manifest.model_copy(update={"files": files})
    lab.store.write_bytes(key(lab, kept, core.MANIFEST), core.encode(manifest))


@pytest.mark.parametrize("harm", ["truncated", "swapped", "contents"])
def test_a_bad_dump_with_right_hashes_is_noticed_by_decoding(lab: World, harm: str) -> None:
    """Hashes that match say nothing when the dump was bad: decoding shows lost rows, lost data, lost contents."""
    kept = lab.backup()
    data = sorted((f for f in kept.manifest.files if f.name.endswith(".dat.zst")), key=lambda f: f.size)
    name = core.TOC if harm == "contents" else data[-1].name
    content = read_bytes(lab.store, key(lab, kept, name))
    swapped = read_bytes(lab.store, key(lab, kept, data[0].name)) if harm == "swapped" else b""
    forge(lab, kept, name, swapped or content[: len(content) // 2])
    assert lab.check(kept.manifest.id, decode=False).ok
    assert {f.check for f in lab.check(kept.manifest.id).faults} == {"decode"}


def test_rows_that_are_missing_without_a_complaint_are_noticed(lab: World) -> None:
    """An archive that decodes without any complaint but holds fewer rows than the manifest's proof is a fault."""
    kept = lab.backup()
    tables = tuple(t.model_copy(update={"rows": t.rows + 1}) for t in kept.manifest.tables)
    altered = kept.manifest.model_copy(update={"tables": tables})
    lab.store.write_bytes(key(lab, kept, core.MANIFEST), core.encode(altered))
    assert sorted(f.subject for f in lab.check(kept.manifest.id).faults) == ["public.big", "public.small"]
