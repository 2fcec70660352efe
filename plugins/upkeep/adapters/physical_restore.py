"""From the store to a data directory that a server starts on: a full backup and the incremental ones built upon it."""

from __future__ import annotations

import hashlib
import queue
import shutil
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from upkeep.adapters import backup_staging, physical_pg, physical_zstd
from upkeep.adapters.encrypted_store import reading
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.adapters.process import run
from upkeep.core import backup as core
from upkeep.core.backup import FileEntry, PhysicalManifest, Place, Progress, Say
from upkeep.core.errors import DamagedError, UpkeepError
from upkeep.core.physical import SERVER_MANIFEST

_HINT = "take an older backup, make a new one now, and look at the store"
_LONGEST = 1000  # no chain is that long: a circle of parents is
_AHEAD = 16
_TAR_BYTES = 128 << 10  # tarfile copies what is left of it at every header


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

    def fetched() -> Iterator[bytes]:
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


def extract(blocks: Callable[[], Iterator[bytes]], codec: physical_zstd.Codec, into: Path, place: str) -> None:
    """Decompress and unpack a stream into a new folder; fetching and decompressing is done beside the writing.

    :raises DamagedError: the stream is not an archive, or not a whole one.
    """
    into.mkdir(mode=0o700)
    with _Stream(lambda: codec.decompress(blocks())) as stream:
        try:
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=_TAR_BYTES) as tar:
                vars(tar)["copybufsize"] = 1 << 20  # by default 16 kB
                tar.extractall(into, filter=_ours)  # noqa: S202  # the filter lets nothing out of the folder
        except (tarfile.TarError, EOFError) as error:
            raise DamagedError(f"{place}: the archive cannot be unpacked: {error}", _HINT) from error
        while stream.read(1 << 20):  # what stands after the end of the archive is read too: errors hide there
            pass


def _ours(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Keep the modes but not the owner, and let nothing out of the folder."""
    safe = tarfile.tar_filter(member, folder)
    return safe.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]


def _blocks(store: Store, prefix: str, entry: FileEntry) -> Iterator[bytes]:
    seen, size = hashlib.sha256(), 0
    with store.read(f"{prefix}/{entry.name}") as blocks:
        for block in blocks:
            seen.update(block)
            size += len(block)
            yield block
    if (size, seen.hexdigest()) != (entry.size, entry.sha256):
        told = f"{size} bytes, SHA-256 {seen.hexdigest()}; expected {entry.size} bytes, {entry.sha256}"
        raise DamagedError(f"{store.location}/{prefix}/{entry.name} differs from its manifest: {told}", _HINT)


class _Stream:
    """A file that is read from blocks made in another thread."""

    def __init__(self, blocks: Callable[[], Iterator[bytes]]) -> None:
        self._queue: queue.Queue[bytes | UpkeepError | None] = queue.Queue(_AHEAD)
        self._gone = threading.Event()
        self._rest, self._at, self._ended = b"", 0, False
        self._thread = threading.Thread(target=self._fill, args=(blocks,), name="unpack", daemon=True)
        self._thread.start()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._thread.join()

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end. :raises UpkeepError: what making the blocks raised."""
        if self._at >= len(self._rest) and not self._ended:
            got = self._queue.get()
            if isinstance(got, UpkeepError):
                self._ended = True
                raise got
            self._ended = got is None
            self._rest, self._at = got or b"", 0
        out = self._rest[self._at : self._at + size]
        self._at += len(out)
        return out

    def _fill(self, blocks: Callable[[], Iterator[bytes]]) -> None:
        last: UpkeepError | None = None
        try:
            for block in blocks():
                if block and not self._put(block):
                    return
        except UpkeepError as error:
            last = error
        except Exception as error:  # a thread has nobody else to tell
            last = DamagedError(f"{type(error).__name__}: {error}", _HINT)
        self._put(last)

    def _put(self, item: bytes | UpkeepError | None) -> bool:
        while not self._gone.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False
