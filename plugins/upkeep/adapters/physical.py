"""Physical backups of PostgreSQL clusters with pg_basebackup; see `core.physical.Physical` and decision 0009."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import subprocess
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from upkeep import __version__
from upkeep.adapters import backup_snapshot, backup_staging, object_store, pg_tools, physical_pg, physical_zstd
from upkeep.adapters.backup_dump import Sender
from upkeep.adapters.backup_making import Making
from upkeep.adapters.object_store import Store
from upkeep.adapters.physical_pack import BLOCK, Packer
from upkeep.adapters.physical_restore import chain, fetch_file
from upkeep.adapters.physical_tar import TarWalk
from upkeep.adapters.process import Done, Program
from upkeep.core.backup import Database, Kept, PhysicalManifest, Place, Progress, Say
from upkeep.core.errors import TransientError
from upkeep.core.physical import DAMAGED, FULL_BECAUSE, SERVER_MANIFEST, Cluster, PhysicalOptions
from upkeep.core.targets import StoreRef

NAME = "base.tar"
_TICK_SECONDS = 5.0
_PIPE_BYTES = 1 << 20  # what Linux gives to anybody
_SAY_SECONDS = 0.5


def make_physical(conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> PhysicalBackups:
    """Return what takes the files of clusters; the parameters are those of `archive.make_archiver`."""
    return PhysicalBackups(conninfo, store, scratch)


class PhysicalBackups:
    """Takes the files of clusters."""

    def __init__(self, conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> None:
        self._conninfo, self._store, self._scratch = conninfo, object_store.once(store), scratch

    def look(self, database: Database, programs: str) -> Cluster:
        """Ask the server who it is and whether it would let itself be copied."""
        cluster = physical_pg.look(backup_snapshot.conninfo_of(self._conninfo, database))
        physical_pg.find(cluster.source.version_num, programs, "pg_basebackup")
        return cluster

    def chain(self, place: Place, backup_id: str) -> tuple[PhysicalManifest, ...]:
        """Return the manifests of a backup and of all that it depends on, newest first."""
        return chain(self._store(place.store), place.series, backup_id)

    def backup(
        self, database: Database, place: Place, options: PhysicalOptions, run_id: str, say: Say
    ) -> Kept[PhysicalManifest]:
        """Make a backup; what was stored of one that fails is removed as far as the store can be reached."""
        # The pieces that wait for the store, and the one that is being filled.
        backup_staging.need(self._scratch, (options.upload_jobs + 2) * options.piece_bytes, "what is on its way")
        conninfo = backup_snapshot.conninfo_of(self._conninfo, database)
        making = Making(self._store(place.store), place, run_id, options.tier)
        with backup_staging.staging(self._scratch, place.target, making.id) as folder, making:
            taking = _Taking(making, conninfo, folder, options, say)
            return making.finish(taking.manifest())


class _Refused(Exception):
    """The server cannot make it incremental."""


class _Taking:
    """One backup that is being taken."""

    def __init__(self, making: Making, conninfo: str, folder: Path, options: PhysicalOptions, say: Say) -> None:
        self._making, self._conninfo, self._options, self._say = making, conninfo, options, say
        self._folder, self._pieces = folder, folder / "pieces"
        self._pieces.mkdir()
        self._cluster = physical_pg.look(conninfo)
        self._programs = physical_pg.find(self._cluster.source.version_num, options.programs, "pg_basebackup")
        self._codec = physical_zstd.best()
        self._sender = Sender(making.store, making.prefix, options.upload_jobs)
        self._walk, self._told = TarWalk(), bytearray()
        self._begun, self._said = time.monotonic(), 0.0
        self._damaged: list[str] = []
        self._kept_wal = True

    def manifest(self) -> PhysicalManifest:
        """Take and store everything but the manifest, and return that."""
        parent, because = self._options.parent, ""
        try:
            try:
                self._take(self._parent_file() if parent else None)
            except _Refused as refused:
                parent, because = None, str(refused)
                self._take(None)
            return self._written(parent, because)
        finally:
            self._sender.close()

    def _parent_file(self) -> Path:
        """Fetch the server's manifest of the parent, which says what is there already."""
        path = self._folder / "parent_manifest"
        assert self._options.parent is not None
        place = self._making.place
        newest = chain(self._making.store, place.series, self._options.parent)[0]
        fetch_file(self._making.store, f"{place.series}/{newest.id}", newest, SERVER_MANIFEST, path)
        return path

    def _take(self, parent: Path | None) -> None:
        options = self._options
        lines: list[str] = []
        reach = pg_tools.access(self._conninfo, f"{backup_snapshot.APPLICATION} pg_basebackup")
        command = physical_pg.command(self._programs, reach, options, self._making.id, parent)
        packer = Packer(
            self._sender, self._pieces, NAME, self._codec, level=options.compression_level, jobs=options.jobs,
            piece=options.piece_bytes, ahead=options.upload_jobs + 1,
        )  # fmt: skip
        slot = "upkeep_" + "".join(c if c.isalnum() else "_" for c in self._making.id.lower())
        try:
            with (
                physical_pg.keep_wal(self._conninfo, slot) as self._kept_wal,
                Program(command, env=reach.env, stdout=subprocess.PIPE, on_line=lines.append) as program,
            ):
                self._stream(program, packer)
                self._judge(Done(program), lines, packer, parent)
            packer.finish()
        finally:
            packer.close()

    def _stream(self, program: Program, packer: Packer) -> None:
        """Read the archive in blocks until it ends; the parts of a block arrive as the server sends them."""
        handle = program.stdout.fileno()
        with contextlib.suppress(OSError, AttributeError):  # fewer turns of both sides, where the system lets us
            fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        parts: list[bytes] = []
        size = 0
        while True:
            if not select.select([handle], [], [], _TICK_SECONDS)[0]:
                self._turn(packer)
                continue
            part = os.read(handle, BLOCK)
            parts.append(part)
            size += len(part)
            if size >= BLOCK or (not part and size):
                block = b"".join(parts)
                parts, size = [], 0
                self._look(block)
                packer.feed(block, lambda: self._turn(packer))
                self._turn(packer)
            if not part:
                return

    def _look(self, block: bytes) -> None:
        """Count the files, and keep the server's manifest. :raises TransientError: it is no archive."""
        try:
            for segment in self._walk.feed(block):
                if segment.member.name == SERVER_MANIFEST:
                    self._told += segment.data
        except tarfile.TarError as error:
            place = backup_snapshot.place_of(self._conninfo)
            raise TransientError(
                f"{place}: what pg_basebackup sends is no archive: {error}", "it is tried again"
            ) from error

    def _turn(self, packer: Packer) -> None:
        self._sender.check()
        now = time.monotonic()
        if now - self._said < _SAY_SECONDS:
            return
        self._said = now
        total = self._cluster.source.size_bytes
        self._say(
            Progress(
                phase="upload", done=self._walk.files, total=self._walk.files, bytes_done=packer.bytes,
                bytes_total=max(total, packer.bytes), stored_bytes=self._sender.stored_bytes, seconds=now - self._begun,
            )
        )  # fmt: skip

    def _judge(self, done: Done, lines: list[str], packer: Packer, parent: Path | None) -> None:
        """Look at how the program ended: damaged pages are told of, they are no reason to have no backup.

        :raises TransientError, ConfigurationError: the archive is not whole.
        """
        if done.code and parent is not None and not packer.bytes:
            reason = next((line for line in done.errors if physical_pg.NO_PARENT.search(line)), "")
            if reason:
                raise _Refused(reason.split("ERROR:")[-1].strip())
        self._damaged = physical_pg.damaged_pages(lines)
        only_pages = any(physical_pg.CHECKSUM_ERROR in line for line in done.errors)
        if done.code and not only_pages:
            place = backup_snapshot.place_of(self._conninfo)
            raise pg_tools.failure("pg_basebackup", place, done)
        if not self._walk.ended or not self._told:
            raise TransientError(
                f"{backup_snapshot.place_of(self._conninfo)}: pg_basebackup ended without the end of the archive",
                "see the server's log; it is tried again",
            )

    def _written(self, parent: str | None, because: str) -> PhysicalManifest:
        content = bytes(self._told)
        path = self._folder / SERVER_MANIFEST
        path.write_bytes(content)
        self._sender.send(path)
        told = physical_pg.read_server_manifest(content)
        options, making = self._options, self._making
        files = self._sender.files()
        return PhysicalManifest(
            id=making.id,
            target=making.place.target,
            run_id=making.run_id,
            tier=options.tier,
            started=making.started,
            finished=datetime.now(UTC),
            source=self._cluster.source,
            tools={"upkeep": __version__, "pg_basebackup": self._programs.version},
            settings={
                **options.model_dump(exclude={"programs", "parent", "tier"}),
                "compress": f"{self._codec.suffix}:{options.compression_level}",
                "kept_wal": self._kept_wal,
                "archive_files": self._walk.files,
                DAMAGED: self._damaged,
                FULL_BECAUSE: because,
            },
            files=files,
            parent=parent,
            key_id=making.store.key_id,
            seconds={"copy": time.monotonic() - self._begun},
            timeline=told.timeline,
            start_lsn=told.start_lsn,
            end_lsn=told.end_lsn,
            checksums=self._cluster.checksums,
        )
