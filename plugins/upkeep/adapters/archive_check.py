"""Reading a stored backup again: what each kind is checked by, and how dumps are decoded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from upkeep.adapters import backup_staging, encrypted_store, pg_tools
from upkeep.adapters.backup_check import Checking
from upkeep.adapters.backup_making import read_manifest
from upkeep.adapters.copy_check import RedisChecking, SqliteChecking
from upkeep.adapters.object_store import Store
from upkeep.adapters.physical_check import PhysicalChecking
from upkeep.adapters.tree_check import TreeChecking
from upkeep.core.backup import GLOBALS, MANIFEST, Check, Fault, Manifest, Place, Say
from upkeep.core.errors import DamagedError


class DumpChecking(Checking[Manifest]):
    """A check of a dump, which can be decoded to rows without a server."""

    def decode(self, programs: str) -> bool:
        """List and decode the archive; compare tables and rows with the manifest's."""
        (self.folder / GLOBALS).unlink(missing_ok=True)
        tools = pg_tools.find(int(self.manifest.tools["pg_dump"].split(".")[0]) * 10_000, programs)
        try:
            contents = pg_tools.entries(tools, self.folder)
        except DamagedError as error:
            self.fault("decode", "toc.dat", error.message)
            return True
        data = [entry.oid for entry in contents if entry.kind == "TABLE DATA"]
        names = {table.oid: ".".join(table.name) for table in self.manifest.tables}
        for oid in sorted(names.keys() ^ set(data)):
            place = "the archive" if oid in names else "the manifest"
            self.fault("decode", names.get(oid, str(oid)), f"the table is not in {place}")
        decoded = pg_tools.decode(
            tools,
            self.folder,
            lambda n: self.say("decode", 0, len(data), n, sum(t.bytes for t in self.manifest.tables)),
        )
        self.rows = sum(decoded.rows)
        for line in decoded.errors:
            self.fault("decode", "archive", line)
        self._compare_rows(data, decoded.rows)
        return True

    def _compare_rows(self, data: list[int], rows: list[int]) -> None:
        if len(rows) != len(data):
            self.fault("decode", "archive", "tables are missing", f"{len(rows)} tables", f"{len(data)} tables")
            return
        expected = {table.oid: table for table in self.manifest.tables}
        for oid, count in zip(data, rows, strict=True):
            if oid in expected and count != expected[oid].rows:
                name = ".".join(expected[oid].name)
                self.fault("decode", name, "rows are missing or too many", str(count), str(expected[oid].rows))


# Kinds that are not named here are read and compared, byte by byte, and not decoded.
_CHECKS: dict[str, type[Checking[Any]]] = {
    "dump": DumpChecking,
    "physical": PhysicalChecking,
    "sqlite": SqliteChecking,
    "redis": RedisChecking,
    "files": TreeChecking,
}


def check(store: Store, place: Place, backup_id: str, *, folder: Path, decode: bool, programs: str, say: Say) -> Check:
    """Read a backup from its store and compare it with its manifest; with `decode`, decode it as a restore would.

    :param folder: an empty folder for the archive's files.
    :raises NoKeyError: it is encrypted and its key is not at hand: nothing is known of it.
    """
    begun = time.monotonic()
    try:
        manifest = read_manifest(store, place, backup_id)
    except DamagedError as error:
        fault = Fault(check="manifest", subject=MANIFEST, message=error.message)
        seconds = time.monotonic() - begun
        return Check(id=backup_id, faults=(fault,), files=0, bytes=0, rows=0, tables=0, decoded=False, seconds=seconds)
    store = encrypted_store.reading(store, manifest)
    if decode:
        backup_staging.need(folder, manifest.size_bytes, "the archive")
    work = folder / "archive"
    work.mkdir()
    checking = _CHECKS.get(manifest.kind, Checking)(store, manifest, f"{place.series}/{backup_id}", work, say)
    checking.files(keep=decode)
    return checking.result(decode and checking.decode(programs))
