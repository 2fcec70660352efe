"""Reading a stored backup again: every byte against the manifest, every row out of the archive."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from upkeep.adapters import backup_staging, pg_tools
from upkeep.adapters.object_store import Store
from upkeep.core.backup import GLOBALS, MANIFEST, MARKER, Check, Fault, FileEntry, Manifest, Progress, Say
from upkeep.core.errors import DamagedError


class Checking:
    """One check of one backup: faults are collected, not raised, so that all of them are told at once."""

    def __init__(self, store: Store, manifest: Manifest, folder: Path, say: Say) -> None:
        self._store, self._manifest, self._folder = store, manifest, folder
        self._prefix = f"{manifest.target}/{manifest.id}"
        self._say_to, self._begun = say, time.monotonic()
        self.faults: list[Fault] = []
        self.bytes = self.rows = 0

    def files(self, keep: bool) -> None:
        """Read every file from the store and compare size and SHA-256; keep them for decoding."""
        listed = {item.key.removeprefix(f"{self._prefix}/"): item.size for item in self._store.list(f"{self._prefix}/")}
        known = {entry.name for entry in self._manifest.files}
        for name in sorted(listed.keys() - known - {MANIFEST, MARKER}):
            self._fault("integrity", name, "an object that the manifest does not name", f"{listed[name]} bytes", "none")
        for number, entry in enumerate(self._manifest.files, 1):
            self._file(entry, keep)
            self._say("read", number, len(self._manifest.files), self.bytes, self._manifest.size_bytes)

    def _file(self, entry: FileEntry, keep: bool) -> None:
        seen, size = hashlib.sha256(), 0
        try:
            with (
                self._store.read(f"{self._prefix}/{entry.name}") as blocks,
                (self._folder / entry.name if keep else Path("/dev/null")).open("wb") as copy,
            ):
                for block in blocks:
                    seen.update(block)
                    size += len(block)
                    copy.write(block)
        except DamagedError as error:
            self._fault("integrity", entry.name, error.message, "missing", f"{entry.size} bytes")
            return
        self.bytes += size
        if size != entry.size:
            self._fault("integrity", entry.name, "the size differs", f"{size} bytes", f"{entry.size} bytes")
        elif seen.hexdigest() != entry.sha256:
            self._fault("integrity", entry.name, "the content differs", seen.hexdigest(), entry.sha256)

    def decode(self, programs: str) -> None:
        """List and decode the archive; compare tables and rows with the manifest's."""
        tools = pg_tools.find(int(self._manifest.tools["pg_dump"].split(".")[0]) * 10_000, programs)
        try:
            contents = pg_tools.entries(tools, self._folder)
        except DamagedError as error:
            self._fault("decode", "toc.dat", error.message)
            return
        data = [entry.oid for entry in contents if entry.kind == "TABLE DATA"]
        names = {table.oid: ".".join(table.name) for table in self._manifest.tables}
        for oid in sorted(names.keys() ^ set(data)):
            place = "the archive" if oid in names else "the manifest"
            self._fault("decode", names.get(oid, str(oid)), f"the table is not in {place}")
        decoded = pg_tools.decode(
            tools,
            self._folder,
            lambda n: self._say("decode", 0, len(data), n, sum(t.bytes for t in self._manifest.tables)),
        )
        self.rows = sum(decoded.rows)
        for line in decoded.errors:
            self._fault("decode", "archive", line)
        self._compare_rows(data, decoded.rows)

    def _compare_rows(self, data: list[int], rows: list[int]) -> None:
        if len(rows) != len(data):
            self._fault("decode", "archive", "tables are missing", f"{len(rows)} tables", f"{len(data)} tables")
            return
        expected = {table.oid: table for table in self._manifest.tables}
        for oid, count in zip(data, rows, strict=True):
            if oid in expected and count != expected[oid].rows:
                name = ".".join(expected[oid].name)
                self._fault("decode", name, "rows are missing or too many", str(count), str(expected[oid].rows))

    def result(self, decoded: bool) -> Check:
        """Return what was seen."""
        return Check(
            id=self._manifest.id,
            faults=tuple(self.faults),
            files=len(self._manifest.files),
            bytes=self.bytes,
            rows=self.rows,
            tables=len(self._manifest.tables),
            decoded=decoded,
            seconds=time.monotonic() - self._begun,
        )

    def _fault(self, check: str, subject: str, message: str, observed: str = "", expected: str = "") -> None:
        said = {"check": check, "subject": subject, "message": message, "observed": observed, "expected": expected}
        self.faults.append(Fault.model_validate(said))

    def _say(self, phase: str, done: int, total: int, bytes_done: int, bytes_total: int) -> None:
        said = {"phase": phase, "done": done, "total": total, "bytes_done": bytes_done, "bytes_total": bytes_total}
        self._say_to(Progress.model_validate({**said, "seconds": time.monotonic() - self._begun}))


def check(store: Store, target: str, backup_id: str, *, folder: Path, decode: bool, programs: str, say: Say) -> Check:
    """Read a backup from its store and compare it with its manifest; with `decode`, decode it as a restore would.

    :param folder: an empty folder for the archive's files.
    """
    from upkeep.adapters.archive import read_manifest

    begun = time.monotonic()
    try:
        manifest = read_manifest(store, target, backup_id)
    except DamagedError as error:
        fault = Fault(check="manifest", subject=MANIFEST, message=error.message)
        seconds = time.monotonic() - begun
        return Check(id=backup_id, faults=(fault,), files=0, bytes=0, rows=0, tables=0, decoded=False, seconds=seconds)
    if decode:
        backup_staging.need(folder, manifest.size_bytes, "the archive")
    work = folder / "archive"
    work.mkdir()
    checking = Checking(store, manifest, work, say)
    checking.files(keep=decode)
    if decode:
        (work / GLOBALS).unlink(missing_ok=True)
        checking.decode(programs)
    return checking.result(decode)
