"""What a backup is: its manifest, and what a routine needs of whoever makes, lists and reads backups.

A backup exists only when its manifest is in the store, whole. Layout, below the store's own prefix:
`<series>/<backup id>/<files>` and `manifest.json`, which is written last. A *series* are the backups of one kind of one
target: `claims/db` for the kind that is usual for it, `claims/db+physical` for another. See docs/decisions/0003.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Protocol

import pydantic
from pydantic import Field

from upkeep.core.errors import DamagedError
from upkeep.core.model import Model
from upkeep.core.targets import StoreRef

FORMAT: Literal["upkeep-backup/2"] = "upkeep-backup/2"
FINGERPRINT = "upkeep-rows/1"
Kind = Literal["dump", "physical", "files", "sqlite", "redis"]
Tier = Literal["daily", "weekly", "monthly", "quarterly"]
MANIFEST, MARKER, GLOBALS, TOC = "manifest.json", "started.json", "globals.sql", "toc.dat"
TOMBSTONE = "removed.json"
ID_PATTERN = r"^\d{8}T\d{6}Z-[0-9a-f]{8}$"


class Database(Model):
    """The database to back up: an Airflow connection, and a database when it is not the connection's own."""

    conn_id: str
    database: str | None = None


class Place(Model):
    """Where the backups of one kind of one target lie."""

    store: StoreRef
    target: str = Field(pattern=r"^[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*$")
    kind: Kind = "dump"

    @property
    def series(self) -> str:
        """What all keys of these backups begin with."""
        return f"{self.target}+physical" if self.kind == "physical" else self.target


class Source(Model):
    """What the backup is a backup of, as the server said in the snapshot."""

    system_identifier: str | None = Field(None, description="of the cluster; None when the role may not ask")
    version: str
    version_num: int
    database: str
    in_recovery: bool
    lsn: str | None
    snapshot_time: datetime
    encoding: str
    lc_collate: str
    lc_ctype: str
    collation_version: str | None
    collation_version_now: str | None
    size_bytes: int
    extensions: dict[str, str]
    unlogged: tuple[str, ...] = Field((), description="tables whose rows a standby does not have, nor its backups")


class FileEntry(Model):
    """One stored file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class KeyRange(Model):
    """Rows whose integer primary key lies from `low` to `high` (both inclusive), with the sum of their hashes."""

    low: int
    high: int
    rows: int
    hash: str = Field(pattern=r"^-?\d+$")


class TableProof(Model):
    """Row count and content hash of one table in the snapshot.

    `hash` is a sum over the rows, as decimal text: it does not depend on their order, and the hash of a partitioned
    table (`root`) is the sum of its leaves'. `writes` counts rows written since the server's statistics were reset.
    `ranges`, of large tables with an integer primary key, tell where a difference lies.
    """

    oid: int
    name: tuple[str, str]
    root: tuple[str, str] | None = None
    rows: int
    hash: str = Field(pattern=r"^-?\d+$")
    bytes: int
    writes: int = 0
    key: str = Field("", description="the column of the primary key that `ranges` go by")
    ranges: tuple[KeyRange, ...] = ()


class SequenceValue(Model):
    """Where a sequence stands, as the archive sets it. `name` is quoted and qualified like in SQL."""

    name: str
    last_value: int
    is_called: bool


class LargeObjects(Model):
    """Count, bytes and content hash of all large objects in the snapshot."""

    count: int = 0
    bytes: int = 0
    hash: str = "0"


class BaseManifest(Model):
    """What the manifests of all kinds tell. `files` lie in the backup's own folder; sizes are those before encryption.

    `parent` is the backup that this one is incremental to: without it (and its parents) this one is worth nothing.
    `key_id` names the key by which everything but the manifest is encrypted; empty: it is not.
    """

    format: Literal["upkeep-backup/2"] = FORMAT
    kind: Kind
    id: str = Field(pattern=ID_PATTERN)
    target: str
    run_id: str
    tier: Tier = "daily"
    started: datetime
    finished: datetime
    tools: dict[str, str]
    settings: dict[str, Any]
    files: tuple[FileEntry, ...]
    parent: str | None = Field(None, pattern=ID_PATTERN)
    key_id: str = ""
    seconds: dict[str, float] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes of all stored files."""
        return sum(f.size for f in self.files)

    @property
    def content_sha256(self) -> str:
        """One hash over the content, whatever it was packed in: equal means equal content."""
        return digest(sorted((f.name, f.size, f.sha256) for f in self.files))

    @property
    def sha256(self) -> str:
        """The hash that is written around this manifest."""
        return hashlib.sha256(_canonical(self.model_dump(mode="json"))).hexdigest()


class Manifest(BaseManifest):
    """A dump of one PostgreSQL database, with the proof of what it holds."""

    kind: Literal["dump"] = "dump"
    fingerprint: str = FINGERPRINT
    source: Source
    tables: tuple[TableProof, ...]
    sequences: tuple[SequenceValue, ...]
    large_objects: LargeObjects
    roles: str = Field("", description="why the roles are not beside the backup; empty when they are")

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(t.rows for t in self.tables)

    @property
    def writes(self) -> int:
        """Rows written to these tables since the server's statistics were reset."""
        return sum(t.writes for t in self.tables)

    @property
    def content_sha256(self) -> str:
        """One hash over the proofs of all tables, sequences and large objects: equal means equal content."""
        seen = [
            sorted((*t.name, t.rows, t.hash) for t in self.tables),
            sorted((s.name, s.last_value, s.is_called) for s in self.sequences),
            self.large_objects.model_dump(),
        ]
        return digest(seen)


class PhysicalManifest(BaseManifest):
    """The files of a whole PostgreSQL cluster, full or (with `parent`) incremental, as pg_basebackup took them."""

    kind: Literal["physical"] = "physical"
    source: Source
    timeline: int
    start_lsn: str
    end_lsn: str
    checksums: bool = Field(description="whether the cluster's pages carry checksums, by which damage is noticed")
    tablespaces: dict[str, str] = Field(default_factory=dict, description="OID -> location on the source")


class TreeManifest(BaseManifest):
    """A tree of files. Names and attributes are in `files` (one entry, the list); contents are objects of the series.

    An object is kept once for all backups of the series: `objects/<first two>/<sha256 of the content>`.
    """

    kind: Literal["files"] = "files"
    entries: dict[str, int] = Field(description="how many of each type: file, directory, symlink")
    total_bytes: int = Field(ge=0, description="of all files, as they are on the disk")
    objects: int = Field(ge=0, description="different contents that it refers to")
    object_bytes: int = Field(ge=0)
    new_objects: int = Field(ge=0, description="those that no earlier backup had stored")
    new_bytes: int = Field(ge=0)
    read_bytes: int = Field(0, ge=0, description="read from the disk; the rest had not been touched since")
    list_sha256: str = Field(description="of the canonical list of names, attributes and contents")
    vanished: int = Field(0, ge=0, description="files that went while they were read")
    changed: int = Field(0, ge=0, description="files that never held still; their content is as of one reading")
    unreadable: int = Field(0, ge=0, description="files and directories that could not be read: not in this backup")
    skipped: int = Field(0, ge=0, description="fifos, sockets and devices: not in this backup")
    lost: int = Field(0, ge=0, description="objects of the backup before that the store had no more, stored again")
    altered: int = Field(0, ge=0, description="files of another content although none of their times had changed")
    read_all: datetime = Field(description="when every file was last read, however untouched it seemed")
    secret: bool = Field(False, description="whether names are confidential too")

    @property
    def content_sha256(self) -> str:
        """The hash of the list, which holds the hash of every content."""
        return self.list_sha256


class CopyManifest(BaseManifest):
    """A consistent copy of a SQLite or Redis database: one file, and what was counted and hashed in it."""

    kind: Literal["sqlite", "redis"]
    version: str
    proof: dict[str, Any]

    @property
    def content_sha256(self) -> str:
        """The hash of what was counted and hashed in it."""
        return digest(self.proof)


AnyManifest = Manifest | PhysicalManifest | TreeManifest | CopyManifest
_MANIFEST: pydantic.TypeAdapter[AnyManifest] = pydantic.TypeAdapter(Annotated[AnyManifest, Field(discriminator="kind")])


def encode(manifest: BaseManifest) -> bytes:
    """Return the bytes of `manifest.json`: canonical JSON with the hash of the manifest around it."""
    return _canonical({"manifest": manifest.model_dump(mode="json"), "sha256": manifest.sha256}) + b"\n"


def decode(data: bytes, place: str) -> AnyManifest:
    """Read `manifest.json`. Any altered byte is noticed: in the content by the hash, elsewhere by the spelling.

    :raises DamagedError: it is not what `encode` wrote, or another version of it did.
    """
    hint = "the backup cannot be relied on; look at who or what wrote to the store, and make a new backup"
    try:
        outer = json.loads(data)
        if _canonical(outer) + b"\n" != data:
            raise ValueError("not in canonical form")
        seen = hashlib.sha256(_canonical(outer["manifest"])).hexdigest()
        if set(outer) != {"manifest", "sha256"} or outer["sha256"] != seen:
            raise ValueError(f"its SHA-256 is {seen}, expected {str(outer['sha256'])[:64]}")
        if (written := outer["manifest"].get("format")) != FORMAT:
            raise DamagedError(
                f"{place} has the format {str(written)[:40]!r}, expected {FORMAT!r}",
                "make a new backup; this one can be restored by hand, or by the version that wrote it",
            )
        return _MANIFEST.validate_python(outer["manifest"])
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise DamagedError(f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{place} is damaged: {error}", hint) from None


def digest(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


class Difference(Model):
    """A table whose rows are not those of the proof."""

    name: tuple[str, str]
    expected: str
    seen: str


def differences(expected: Iterable[TableProof], seen: Iterable[TableProof]) -> tuple[Difference, ...]:
    """Compare proofs, leaf by leaf, and where leaves differ by their partitioned table.

    A restore may put a row into another leaf (hash partitions on types whose hash is not portable); the partitioned
    table as a whole must still hold the same rows.
    """
    left, right = ({p.name: p for p in proofs} for proofs in (expected, seen))
    differing = sorted(n for n in left.keys() | right.keys() if _told(left.get(n)) != _told(right.get(n)))
    roots = {p.root for n in differing for p in (left.get(n), right.get(n)) if p and p.root}
    moved = {root for root in roots if _summed(left.values(), root) == _summed(right.values(), root)}
    return tuple(
        Difference(name=n, expected=_told(left.get(n)), seen=_told(right.get(n)))
        for n in differing
        if not any(p is not None and p.root in moved for p in (left.get(n), right.get(n)))
    )


def _told(proof: TableProof | None) -> str:
    return f"{proof.rows} rows, hash {proof.hash}" if proof else "no such table"


def _summed(proofs: Iterable[TableProof], root: tuple[str, str]) -> tuple[int, int]:
    leaves = [p for p in proofs if p.root == root]
    return sum(p.rows for p in leaves), sum(int(p.hash) for p in leaves)


class Options(Model):
    """How to make a backup. Times are in seconds."""

    tier: Tier = "daily"
    jobs: int = 2
    fingerprint_jobs: int = 1
    upload_jobs: int = 4
    compression_level: int = 7
    long_window: bool = True
    lock_timeout: float = 60.0
    programs: str = Field("", description="folder with pg_dump; default: UPKEEP_PG_BIN, then PATH, then usual places")
    expected_bytes: int = Field(0, ge=0, description="space that staging must have before the dump starts")


class Progress(Model):
    """How far a backup or a check has come."""

    phase: Literal["dump", "upload", "read", "decode"]
    done: int
    total: int
    proved: int = 0
    bytes_done: int
    bytes_total: int
    stored_bytes: int = 0
    seconds: float


class Stored(Model):
    """What lies in the store under one backup id; without a manifest it is no backup but a leftover."""

    id: str
    complete: bool
    objects: int
    size_bytes: int
    modified: datetime


class Removal(Model):
    """The note in the store that retention removes a backup, or has. It stays until the removal is on record.

    `whole`: the manifest is still there, so it is a backup all the same. `objects` and `bytes`: what else is there.
    """

    id: str
    reason: str
    at: datetime
    whole: bool
    objects: int
    bytes: int


class Collected(Model):
    """Objects of a series of file trees that no backup refers to: removed, or `waiting` until they are old enough.

    `reason` says why nothing, or not everything, was removed: a backup is at work; `unknown`: what the backups need
    cannot be read.
    """

    objects: int = 0
    bytes: int = 0
    waiting: int = 0
    locked: int = 0
    kept: int = 0
    reason: str = ""
    unknown: bool = False


class Kept[M: BaseManifest](Model):
    """A finished backup."""

    manifest: M
    location: str
    manifest_sha256: str


class Leftover(Model):
    """What a try that did not finish left behind: objects, an unfinished upload, a staging folder."""

    kind: Literal["objects", "upload", "staging"]
    name: str
    bytes: int = 0
    reason: str


class Fault(Model):
    """One thing that is wrong with a stored backup. `check`: `integrity`, `manifest` or `decode`."""

    check: Literal["integrity", "manifest", "decode"]
    subject: str
    message: str
    observed: str = ""
    expected: str = ""


class Check(Model):
    """What re-reading a stored backup showed."""

    id: str
    faults: tuple[Fault, ...]
    files: int
    bytes: int
    rows: int
    tables: int
    decoded: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every byte was as the manifest says and, when it was decoded, every row was there."""
        return not self.faults


Say = Callable[[Progress], None]


class Archiver(Protocol):
    """Makes, lists, reads and sweeps backups; see `adapters.archive`. Every method raises `UpkeepError`s."""

    def source(self, database: Database) -> Source:
        """Ask the server who it is; the snapshot time is that of asking."""
        ...

    def stored(self, place: Place) -> tuple[Stored, ...]:
        """List what the store holds for a target, newest first, leftovers included."""
        ...

    def manifest(self, place: Place, backup_id: str) -> AnyManifest:
        """Read a manifest. :raises DamagedError: it is missing or altered."""
        ...

    def free_bytes(self) -> int:
        """Return the free space of the scratch folder."""
        ...

    def leftovers(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """List what tries that nobody works on any more have left behind."""
        ...

    def sweep(self, place: Place, run_id: str, patience: timedelta) -> tuple[Leftover, ...]:
        """Remove the leftovers and return them. A backup with a manifest, or one being made, is never touched."""
        ...

    def remove(self, place: Place, backup_id: str, reason: str) -> Removal:
        """Remove a backup, or end its removal; what is no backup and was not begun to be removed is left alone.

        Its manifest goes first, so that it is never a backup with parts missing. The note of it stays; see `forget`.
        """
        ...

    def removals(self, place: Place) -> tuple[Removal, ...]:
        """List the notes on removals."""
        ...

    def forget(self, place: Place, ids: Iterable[str]) -> int:
        """Take away the notes on removals that are complete, or that never came to be; return how many."""
        ...

    def collect(self, place: Place, run_id: str, patience: timedelta, grace: timedelta) -> Collected:
        """Remove objects of a series of file trees that no backup refers to and that are older than `grace`.

        Nothing is removed while a backup of the series is being made.
        """
        ...

    def backup(self, database: Database, place: Place, options: Options, run_id: str, say: Say) -> Kept[Manifest]:
        """Make a backup."""
        ...

    def check(self, place: Place, backup_id: str, decode: bool, programs: str, say: Say) -> Check:
        """Re-read a stored backup from its store."""
        ...
