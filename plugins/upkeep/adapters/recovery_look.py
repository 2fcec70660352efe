"""What stands in the way of a restore of a database, and what it would replace: looked at, nothing changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from upkeep.adapters import backup_fetch, encrypted_store, pg_restore, pg_tools, recovery_proof, volume
from upkeep.adapters.archive import Archive
from upkeep.adapters.backup_snapshot import conninfo_of
from upkeep.adapters.object_store import Store
from upkeep.adapters.postgres import Session, open_session
from upkeep.adapters.recovery_swap import Swap
from upkeep.adapters.workbench import open_workbench
from upkeep.core import backup as core
from upkeep.core import recovery
from upkeep.core.backup import AnyManifest, Database, Manifest, Place
from upkeep.core.errors import ConfigurationError, DamagedError, UpkeepError
from upkeep.core.job import Failed
from upkeep.core.model import Severity
from upkeep.core.recovery import Chosen, DatabaseOrder, Obstacle, Present
from upkeep.core.recovery import Session as Seen

APPLICATION = "upkeep emergency restore"
# A restored database is smaller than its source as a rule; WAL of the restore needs room as well.
_ROOM = 1.2
_TIME_COLUMNS = 12


class Means(NamedTuple):
    """What a restore works with: backups, their store, connections, and a folder for what is on its way."""

    archive: Archive
    store: Store
    conninfo: Callable[[str], str]
    scratch: Path


@dataclass
class Obstacles:
    """Gathers what stands in the way."""

    subject: str
    found: list[Obstacle] = field(default_factory=list)

    def add(self, severity: Severity, check: str, message: str, hint: str, **figures: str) -> None:
        """Note one; `figures` are `observed` and `limit`."""
        self.found.append(
            Obstacle(check=check, subject=self.subject, severity=severity, message=message, hint=hint, **figures)
        )

    @contextmanager
    def noting(self, check: str, severity: Severity = Severity.CRITICAL) -> Iterator[None]:
        """Note the error that ends the block, if one does, and go on."""
        try:
            yield
        except UpkeepError as error:
            self.add(severity, check, error.message, error.hint)


def pick(archive: Archive, store: Store, place: Place, backup: str, notes: Obstacles) -> AnyManifest | None:
    """Find the backup that was asked for, and see that it is whole as far as that shows without reading all of it."""
    there = [s for s in archive.stored(place) if s.complete]
    wanted = next((s for s in there if backup in (recovery.LATEST, s.id)), None)
    if wanted is None:
        known = ", ".join(s.id for s in there[:5]) or "none"
        what = "any backup" if backup == recovery.LATEST else f"backup {backup!r}"
        notes.add(Severity.CRITICAL, "missing", f"{place.store.url} does not hold {what} of {place.series}",
                  f"choose one of those that are there: {known}")  # fmt: skip
        return None
    with notes.noting("manifest"):
        manifest = archive.manifest(place, wanted.id)
        if not manifest.key_id and wanted.size_bytes != manifest.size_bytes:
            raise DamagedError(
                f"backup {wanted.id}: the store lists {wanted.size_bytes} bytes, its manifest {manifest.size_bytes}",
                "objects are missing or altered: choose another backup, then run backup.verify",
            )
        smallest = min(manifest.files, key=lambda f: f.size)
        # Also the proof that the key to it is here.
        with encrypted_store.reading(store, manifest).read(f"{place.series}/{wanted.id}/{smallest.name}") as blocks:
            next(iter(blocks), b"")
        return manifest
    return None


def chosen(manifest: AnyManifest, location: str) -> Chosen:
    """Return what a person has to know of a backup."""
    said: dict[str, Any] = {"encrypted": bool(manifest.key_id)}
    if isinstance(manifest, Manifest):
        source = manifest.source
        said |= {
            "source_bytes": source.size_bytes, "rows": manifest.rows, "tables": len(manifest.tables),
            "writes": manifest.writes, "server_version": source.version,
            "system_identifier": source.system_identifier or "", "finished": source.snapshot_time,
        }  # fmt: skip
    elif isinstance(manifest, core.TreeManifest):
        files = sum(manifest.entries.get(kind, 0) for kind in ("file", "hardlink"))
        said |= {"source_bytes": manifest.total_bytes, "files": files}
    return Chosen(
        **{"finished": manifest.finished, **said}, id=manifest.id, location=location, size_bytes=manifest.size_bytes
    )


def look(means: Means, order: DatabaseOrder) -> recovery.Preflight:
    """Look at backup, server and database.

    :raises UpkeepError: the server does not answer, or the order cannot be meant so.
    """
    name = database_name(means.conninfo, order)
    notes = Obstacles(order.place.target)
    manifest = pick(means.archive, means.store, order.place, order.backup, notes)
    with open_workbench(admin(means.conninfo, order), application_name=APPLICATION) as session:
        swap = Swap(session, name, lambda _: None)
        there = swap.find()
        server = session.rows("recovery/server")[0]
        _judge_server(server, there, name, notes)
        if isinstance(manifest, Manifest):
            with notes.noting("identity"):
                check_identity(means.archive, order, manifest)
            _judge_fit(session, server, manifest, notes)
            _judge_programs(means, session, order, manifest, notes)
            _judge_space(server, order, manifest, notes)
        elif manifest is not None:
            said = f"{manifest.id} is a backup of kind {manifest.kind}, expected a dump"
            notes.add(Severity.CRITICAL, "manifest", said, "choose another backup")
        present = _present(means, order, there, swap, manifest)
        if present.trouble and there:
            said = f"the present database {name} cannot be looked into: {present.trouble}"
            hint = "it is replaced all the same, and kept under another name"
            notes.add(Severity.WARNING, "current", said, hint)
        halves = swap.halves()
    location = f"{means.store.location}/{order.place.series}/{manifest.id}" if manifest else ""
    return recovery.Preflight(
        chosen=chosen(manifest, location) if manifest else None,
        present=present,
        obstacles=tuple(notes.found),
        halves=halves,
    )


def database_name(conninfo: Callable[[str], str], order: DatabaseOrder) -> str:
    """Return the name of the database that is replaced.

    :raises ConfigurationError: the connection names none, or the one that the work is done from.
    """
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo_of(conninfo, order.application))
    name = str(parts.get("dbname") or parts.get("user") or "")
    if name == order.server.database or name in ("template0", "template1"):
        raise ConfigurationError(
            f"{order.place.target}: database {name!r} cannot be renamed while the work is done from it",
            "name another database of the server in the setting admin_database",
        )
    return name


def admin(conninfo: Callable[[str], str], order: DatabaseOrder) -> str:
    """Return the connection string from which databases are made and renamed."""
    return conninfo_of(conninfo, order.server)


def check_identity(archive: Archive, order: DatabaseOrder, manifest: Manifest) -> None:
    """See that the server is the one that was backed up.

    :raises UnsafeError: it is another one, or nobody can tell, and the person has not said that it is meant.
    """
    from upkeep.core.errors import UnsafeError

    if order.foreign:
        return
    seen, expected = archive.source(order.server).system_identifier, manifest.source.system_identifier
    if seen is None or seen != expected:
        raise UnsafeError(
            f"the server has system identifier {seen or 'unknown'}, the backup was taken from {expected or 'unknown'}",
            "is it the right connection? where it is meant to be another server, tick `another_server` in the form"
            " (unknown: GRANT EXECUTE ON FUNCTION pg_control_system() TO the role)",
        )


def _judge_server(server: dict[str, Any], there: dict[str, Any] | None, name: str, notes: Obstacles) -> None:
    role, critical = server["role"], Severity.CRITICAL
    if server["in_recovery"]:
        notes.add(critical, "standby", "the server is a standby: nothing can be restored into it",
                  "restore on the primary, or promote this one first")  # fmt: skip
    if not server["may_create"]:
        notes.add(critical, "privilege", f"role {role} may not create or rename databases",
                  f"ALTER ROLE {role} CREATEDB, or name another connection in the setting conn_id")  # fmt: skip
    if there and not there["ours"]:
        notes.add(critical, "owner", f"role {role} does not own database {name}; its owner is {there['owner']}",
                  f"GRANT {there['owner']} TO {role}, or name another connection in the setting conn_id")  # fmt: skip
    if not server["may_end_sessions"]:
        notes.add(Severity.WARNING, "sessions", f"role {role} may end only sessions of roles that it is a member of",
                  f"GRANT pg_signal_backend TO {role}; while others are connected, the swap is not made")  # fmt: skip
    if there and there["prepared"]:
        notes.add(critical, "prepared", f"{there['prepared']} prepared transactions stand open in {name}",
                  "COMMIT PREPARED or ROLLBACK PREPARED them (pg_prepared_xacts); no rename goes before")  # fmt: skip
    if there and there["slots"]:
        notes.add(Severity.WARNING, "slots", f"{there['slots']} logical replication slots belong to {name}",
                  "they stay with it under its new name: make new ones in the restored database")  # fmt: skip


def _judge_fit(session: Session, server: dict[str, Any], manifest: Manifest, notes: Obstacles) -> None:
    source = manifest.source
    if server["version_num"] // 10_000 < source.version_num // 10_000:
        notes.add(Severity.CRITICAL, "version", f"the backup is of PostgreSQL {source.version}, the server"
                  f" {server['version']} is older", "restore into a server of the same or a newer version")  # fmt: skip
    hints = {
        "missing": "install their packages on the server",
        "superuser": "only a superuser may make them: name such a connection in the setting conn_id",
    }
    found = session.rows("recovery/missing_extensions", names=sorted(source.extensions))
    for why, hint in hints.items():
        if names := ", ".join(row["extension"] for row in found if row["why"] == why):
            said = "is not there" if why == "missing" else f"cannot be made by role {server['role']}"
            notes.add(Severity.CRITICAL, "extensions", f"extension {names} {said}", hint)


def _judge_programs(means: Means, session: Session, order: DatabaseOrder, manifest: Manifest, notes: Obstacles) -> None:
    """See that pg_restore is here, and which roles the dump's definitions name that the server does not have."""
    with notes.noting("programs"), tempfile.TemporaryDirectory(prefix="preflight-", dir=means.scratch) as folder:
        programs = find_programs(session.version, manifest, order.programs)
        contents = manifest.model_copy(update={"files": tuple(f for f in manifest.files if f.name == core.TOC)})
        backup_fetch.fetch(
            encrypted_store.reading(means.store, manifest),
            f"{order.place.series}/{manifest.id}",
            contents,
            Path(folder),
        )
        named = sorted(pg_restore.named_roles(programs, Path(folder)))
        missing = ", ".join(r["role"] for r in session.rows("recovery/missing_roles", roles=named))
        if missing:
            notes.add(Severity.CRITICAL, "roles", f"the server does not have the roles {missing}",
                      f"CREATE ROLE them first; {core.GLOBALS} beside the backup tells how they were")  # fmt: skip
        owners = recovery_proof.owners(programs, Path(folder))
        foreign = ", ".join(r["role"] for r in session.rows("recovery/foreign_roles", roles=owners))
        if foreign:
            notes.add(Severity.CRITICAL, "owners", f"this role cannot give objects back to their owners {foreign}",
                      f"GRANT {foreign} TO it, or name a superuser's connection in the setting conn_id")  # fmt: skip


def find_programs(server_version: int, manifest: Manifest, folders: str) -> pg_tools.Programs:
    """Return programs that read what the dump's pg_dump wrote and that the server understands."""
    wrote = int(manifest.tools["pg_dump"].split(".")[0]) * 10_000
    return pg_tools.find(max(server_version, wrote), folders)


def _judge_space(server: dict[str, Any], order: DatabaseOrder, manifest: Manifest, notes: Obstacles) -> None:
    needed = int(manifest.source.size_bytes * _ROOM)
    free, why = _free(server, order)
    if free is None:
        said = f"whether the server has room for a second copy ({_mb(needed)}) is unknown: {why}"
        notes.add(Severity.UNKNOWN, "space", said, "look by hand; add `volume` to the target for the next time")
    elif free < needed:
        notes.add(Severity.CRITICAL, "space", "the server has no room for a second copy of the database",
                  "free space on the volume; the present database stays as it is beside the restored one",
                  observed=_mb(free), limit=_mb(needed))  # fmt: skip


def _free(server: dict[str, Any], order: DatabaseOrder) -> tuple[int | None, str]:
    given = order.volume
    if given is None:
        return None, "the target names no volume"
    if given.size is not None:
        used = server["all_bytes"]
        return (int(given.size) - used, "") if used is not None else (None, "the sizes of the databases are not told")
    seen = volume.disk(str(given.path))
    return (None, seen.message) if isinstance(seen, Failed) else (seen.free, "")


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def _present(
    means: Means, order: DatabaseOrder, there: dict[str, Any] | None, swap: Swap, manifest: AnyManifest | None
) -> Present:
    name = swap.name
    if there is None:
        return Present(name=name, exists=False, trouble="there is no database of this name")
    said: dict[str, Any] = {}
    try:
        inside = conninfo_of(means.conninfo, Database(conn_id=order.server.conn_id, database=name))
        with open_session(inside, application_name=APPLICATION, statement_timeout=15, kind=Session) as session:
            said = _content(session, manifest)
    except UpkeepError as error:
        said = {"trouble": error.message}
    return Present(
        name=name,
        exists=True,
        identity=str(there["oid"]),
        size_bytes=there["size_bytes"],
        sessions=grouped([s for s in swap.others() if s["application"] != APPLICATION]),
        **said,
    )


def _content(session: Session, manifest: AnyManifest | None) -> dict[str, Any]:
    """Return what the database holds now, and how much of it came after the backup, as its counters tell."""
    now = session.rows("recovery/content")[0]
    said: dict[str, Any] = {"rows": now["rows"], "items": now["tables"]}
    if isinstance(manifest, Manifest) and now["writes"] >= manifest.writes:
        counted_since: datetime | None = now["counted_since"]
        if counted_since is None or counted_since <= manifest.source.snapshot_time:
            said["changed"] = now["writes"] - manifest.writes
    return said | _newest(session)


def _newest(session: Session) -> dict[str, Any]:
    """Return the newest time in the columns that an index gives at once, and which column that is."""
    from psycopg import sql

    best: tuple[datetime, str] | None = None
    for row in session.rows("recovery/time_columns", most=_TIME_COLUMNS):
        column = sql.Identifier(row["column"])
        text = sql.SQL("select max({0})::timestamptz from {1} where {0} <= now()").format(
            column, sql.Identifier(row["schema"], row["name"])
        )
        found = session.connection.execute(text).fetchone()
        value = found[0] if found else None
        if value is not None and (best is None or value > best[0]):
            best = (value, f"{row['schema']}.{row['name']}.{row['column']}")
    return {"newest": best[0], "newest_in": best[1]} if best else {}


def grouped(sessions: Sequence[dict[str, Any]]) -> tuple[Seen, ...]:
    """Return who is connected, equal sessions counted together."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for one in sessions:
        key = (one["role"], one["application"], one["address"], one["state"])
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        Seen(role=role, application=application, address=address, state=state, count=count)
        for (role, application, address, state), count in counts.items()
    )
