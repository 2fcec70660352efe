"""From the store to a data directory that a server starts on: a full backup and the incremental ones built upon it."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from upkeep.adapters import backup_staging, physical_pg, physical_zstd
from upkeep.adapters.encrypted_store import reading
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.adapters.physical_unpack import extract
from upkeep.adapters.process import run
from upkeep.core import backup as core
from upkeep.core.backup import FileEntry, PhysicalManifest, Place, Progress, Say
from upkeep.core.errors import DamagedError
from upkeep.core.physical import SERVER_MANIFEST

_HINT = "take an older backup, make a new one now, and look at the store"
_LONGEST = 1000  # no chain is that long: a circle of parents is


def chain(store: Store, series: str, backup_id: str) -> tuple[PhysicalManifest, ...]:
    """Return the manifests of a backup and of all that it depends on, newest first.

    :raises DamagedError: one is missing, altered, of another backup, or not of the same cluster.
    """
    found: list[PhysicalManifest] = []
    wanted: str | None = backup_id
    while wanted is not None:
        key = f"{series}/{wanted}/{core.MANIFEST}"
        manifest = core.decode(read_bytes(store, key), f"{store.location}/{key}")
        if not isinstance(manifest, PhysicalManifest) or manifest.id != wanted or len(found) > _LONGEST:
            raise DamagedError(f"{store.location}/{key} is the manifest of {manifest.id} ({manifest.kind})", _HINT)
        if found and manifest.source.system_identifier != found[0].source.system_identifier:
            raise DamagedError(f"{store.location}/{key}: {backup_id} is built upon another cluster's backup", _HINT)
        found.append(manifest)
        wanted = manifest.parent
    return tuple(found)


def fetch_file(store: Store, prefix: str, manifest: PhysicalManifest, name: str, into: Path) -> None:
    """Fetch one file. :raises DamagedError: it is missing or not as it was written."""
    entry = next((f for f in manifest.files if f.name == name), None)
    if entry is None:
        raise DamagedError(f"{store.location}/{prefix}: the manifest names no {name}", _HINT)
    with into.open("wb") as file:
        for block in _blocks(reading(store, manifest), prefix, entry):
            file.write(block)


def fetch_and_unpack(store: Store, place: Place, backup_id: str, folder: Path, *, programs: str, say: Say) -> Path:
    """Bring a backup back as a data directory, and return it: `folder/data`, mode 0700, owned by this user.

    A server that starts on it replays the WAL that lies in it and is then as the source was at the backup's end. Its
    configuration is the source's (`postgresql.conf`, `postgresql.auto.conf`, `pg_hba.conf`, as far as they lie in the
    data directory): who starts it elsewhere must set port, addresses, `archive_mode=off` and paths anew. Every byte is
    compared with the manifest on the way. Nothing is flushed to the disk.

    :param folder: an existing folder with room for the cluster, twice when the backup is incremental.
    :param programs: folders with PostgreSQL's programs; empty: the usual places.
    :raises DamagedError: something is missing or altered. :raises ConfigurationError: programs are missing.
    """
    manifests = chain(store, place.series, backup_id)
    backup_staging.need(folder, room(manifests), "the restored cluster")
    unpacked: list[Path] = []
    for manifest in reversed(manifests):
        into = folder / f"part-{len(unpacked)}"
        unpack(store, f"{place.series}/{manifest.id}", manifest, into, say)
        unpacked.append(into)
    data = folder / "data"
    if len(unpacked) == 1:
        unpacked[0].rename(data)
    else:
        combine(manifests[0], unpacked, data, programs)
        for part in unpacked:
            shutil.rmtree(part)
    data.chmod(0o700)
    return data


def room(manifests: Sequence[PhysicalManifest]) -> int:
    """Return the bytes that unpacking a chain and combining it may take."""
    size = max(m.source.size_bytes for m in manifests)
    return size if len(manifests) == 1 else 2 * size + 8 * sum(m.size_bytes for m in manifests[:-1])


def combine(newest: PhysicalManifest, parts: Sequence[Path], into: Path, programs: str) -> None:
    """Put a full backup and incremental ones together, oldest first.

    :raises DamagedError: they do not fit.
    """
    tools = physical_pg.find(newest.source.version_num, programs, "pg_combinebackup", exact=True)
    # From 18 on whole files need not be copied: the parts are removed afterwards.
    how = ["--link"] if tools.major >= 18 else []
    line: list[str | Path] = [tools.path("pg_combinebackup"), *parts, "--output", into, "--no-sync", *how]
    done, _ = run(line)
    if done.code:
        raise DamagedError(f"pg_combinebackup: {' | '.join(done.errors[-4:])[:1000]}", _HINT)


def unpack(store: Store, prefix: str, manifest: PhysicalManifest, into: Path, say: Say) -> None:
    """Fetch, compare, decompress and unpack one backup's archive. :raises DamagedError: it is not as it was written."""
    begun, taken = time.monotonic(), 0
    entries, store = pieces(manifest), reading(store, manifest)

    def fetched() -> Generator[bytes]:
        nonlocal taken
        for number, entry in enumerate(entries, 1):
            for block in _blocks(store, prefix, entry):
                taken += len(block)
                yield block
            say(
                Progress(
                    phase="read", done=number, total=len(entries), bytes_done=taken, bytes_total=manifest.size_bytes,
                    seconds=time.monotonic() - begun,
                )
            )  # fmt: skip

    try:
        extract(fetched, codec_of(manifest), into, f"{store.location}/{prefix}")
    except DamagedError:
        # Decompressing and unpacking stumble before a piece is read to its end: which one is it?
        for entry in entries:
            for _ in _blocks(store, prefix, entry):
                pass
        raise


def pieces(manifest: PhysicalManifest) -> list[FileEntry]:
    """Return the pieces of the archive in their order."""
    return sorted((f for f in manifest.files if f.name != SERVER_MANIFEST), key=lambda f: f.name)


def codec_of(manifest: PhysicalManifest) -> physical_zstd.Codec:
    """Return the way by which a backup's archive was compressed."""
    return physical_zstd.of(str(manifest.settings["compress"]).partition(":")[0])


def _blocks(store: Store, prefix: str, entry: FileEntry) -> Generator[bytes]:
    seen, size = hashlib.sha256(), 0
    with store.read(f"{prefix}/{entry.name}") as blocks:
        for block in blocks:
            seen.update(block)
            size += len(block)
            yield block
    if (size, seen.hexdigest()) != (entry.size, entry.sha256):
        told = f"{size} bytes, SHA-256 {seen.hexdigest()}; expected {entry.size} bytes, {entry.sha256}"
        raise DamagedError(f"{store.location}/{prefix}/{entry.name} differs from its manifest: {told}", _HINT)
