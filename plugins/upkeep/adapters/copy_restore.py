"""Fetching a stored SQLite or Redis database into a folder, ready for its own program to open."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from upkeep.adapters import backup_staging, copy_pack, copy_sqlite, encrypted_store, rdb
from upkeep.adapters.backup_making import read_manifest
from upkeep.adapters.object_store import Store
from upkeep.core.backup import CopyManifest, Place
from upkeep.core.copies import PACKED, Fetched
from upkeep.core.errors import DamagedError

_HINT = "take another backup of this target; verify them all (which: all), look at the store"
_SECONDS = 4 * 3600.0


def fetch(store: Store, place: Place, backup_id: str, folder: Path) -> Fetched:
    """Fetch, unpack and verify; the file appears under its name only when it is what the manifest says.

    :raises DamagedError: it is not what was written; the folder is as before.
    :raises TransientError: the store is away, or there is no space.
    """
    begun = time.monotonic()
    manifest = read_manifest(store, place, backup_id)
    if not isinstance(manifest, CopyManifest):
        raise DamagedError(f"{place.series}/{backup_id} is of kind {manifest.kind}, expected sqlite or redis", _HINT)
    expected = int(manifest.settings["unpacked_bytes"])
    backup_staging.need(folder, manifest.size_bytes + expected, "the database")
    packed = folder / f"{backup_id}.{PACKED[manifest.kind]}.partial"
    plain = folder / f"{backup_id}.{PACKED[manifest.kind].removesuffix('.gz')}.partial"
    final = folder / PACKED[manifest.kind].removesuffix(".gz")
    try:
        _download(encrypted_store.reading(store, manifest), f"{place.series}/{backup_id}", manifest, packed)
        copy_pack.unpack(packed, plain, expected)
        if wrong := _faults(plain, manifest):
            raise DamagedError(f"{store.location}/{place.series}/{backup_id}: {'; '.join(wrong)}", _HINT)
        with plain.open("rb") as file:
            os.fsync(file.fileno())
        plain.rename(final)
    finally:
        packed.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
    return Fetched(path=str(final), bytes=expected, manifest=manifest, seconds=time.monotonic() - begun)


def _download(store: Store, prefix: str, manifest: CopyManifest, into: Path) -> None:
    entry = next(f for f in manifest.files if f.name == PACKED[manifest.kind])
    seen, size = hashlib.sha256(), 0
    into.unlink(missing_ok=True)
    with store.read(f"{prefix}/{entry.name}") as blocks, into.open("xb") as file:
        for block in blocks:
            seen.update(block)
            size += file.write(block)
    if (size, seen.hexdigest()) != (entry.size, entry.sha256):
        raise DamagedError(f"{store.location}/{prefix}/{entry.name} is not what was written", _HINT)


def _faults(plain: Path, manifest: CopyManifest) -> list[str]:
    if manifest.kind == "sqlite":
        return copy_sqlite.faults(plain, manifest.proof, time.monotonic() + _SECONDS)
    seen = rdb.look(plain)
    expected = manifest.proof["bytes"], manifest.proof["checksum"]
    return [] if (seen.size, seen.checksum) == expected else [f"RDB of {seen.size} bytes, expected {expected[0]}"]
