"""PostgreSQL's own programs and sessions for physical backups: preflight, copying, what the server's manifest says."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from upkeep.adapters import backup_snapshot, pg_tools, statements
from upkeep.adapters.pg_tools import Access, Programs
from upkeep.adapters.postgres import connect_error
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError
from upkeep.core.physical import Cluster, PhysicalOptions

_CHECKSUM = re.compile(r'checksum verification failed in file "(?:\./)?([^"]+)", block (\d+)')
# src/backend/backup/basebackup_incremental.c: every complaint about what an incremental backup would build upon.
NO_PARENT = re.compile(r"(WAL summar|manifest (requires|is missing|contains)|summarization)")
_WHOLE = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
CHECKSUM_ERROR = "checksum error occurred"
_HBA = (
    "in pg_hba.conf, let the role connect to `replication` from this machine:"
    " host replication <role> <address>/32 scram-sha-256"
)


class ServerManifest(NamedTuple):
    """What `backup_manifest` says of the whole backup: where the WAL that it needs begins and ends."""

    timeline: int
    start_lsn: str
    end_lsn: str
    files: int


def find(version_num: int, folders: str, *names: str, exact: bool = False) -> Programs:
    """Return client programs of the server's major (or, unless `exact`, newer) that include `names`.

    :raises ConfigurationError: there are none.
    """
    programs, major = pg_tools.find(version_num, folders), version_num // 10_000
    if not folders and any(not os.access(programs.path(name), os.X_OK) for name in names):
        # Debian's /usr/bin has pg_dump and few others; all of a version lie together.
        with contextlib.suppress(ConfigurationError):
            programs = pg_tools.find(version_num, os.pathsep.join(place.format(major) for place in _WHOLE))
    if exact and programs.major != major:
        raise ConfigurationError(
            f"programs of PostgreSQL {major} are needed to read its files; found {programs.version}",
            f"install postgresql-{major} or set UPKEEP_PG_BIN to its folder of programs",
        )
    lacking = [name for name in names if not os.access(programs.path(name), os.X_OK)]
    if lacking:
        raise ConfigurationError(
            f"{programs.folder} lacks {', '.join(lacking)}",
            f"install postgresql-{programs.major} and postgresql-client-{programs.major}, or set UPKEEP_PG_BIN",
        )
    return programs


def look(conninfo: str) -> Cluster:
    """Ask the server who it is and whether it would let itself be copied; see `core.physical.Physical.look`."""
    place = backup_snapshot.place_of(conninfo)
    with backup_snapshot.connect(conninfo) as connection, backup_snapshot.told(place):
        source = backup_snapshot.read_source(connection)
        text = statements.load("backup", "cluster", connection.info.server_version)
        row = connection.execute(text.encode()).fetchone()
        assert row is not None
    _preflight(place, row)
    identifier, timeline = identify(conninfo)
    changes = {"system_identifier": identifier, "size_bytes": row["size_bytes"] or source.size_bytes}
    return Cluster(
        source=source.model_copy(update=changes),
        timeline=timeline,
        checksums=row["checksums"],
        summarizes=row["summarizes"],
        slots_free=max(0, row["max_slots"] - row["slots"]),
        page_failures=row["page_failures"],
    )


def _preflight(place: str, row: dict[str, Any]) -> None:
    """Name everything that is missing, with its cure. :raises ConfigurationError, TransientError: something is."""
    missing: list[tuple[str, str]] = []
    if not row["replication"]:
        missing.append((f"role {row['role']} lacks REPLICATION", f"ALTER ROLE {row['role']} REPLICATION"))
    if row["wal_level"] == "minimal":
        missing.append(("wal_level is minimal", "ALTER SYSTEM SET wal_level = replica, then restart"))
    if row["max_wal_senders"] == 0:
        missing.append(("max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders = 10, then restart"))
    if row["tablespaces"]:
        where = ", ".join(sorted(row["tablespaces"].values()))
        cure = "move what lies there to pg_default (ALTER TABLE ... SET TABLESPACE), or skip backup.physical here"
        missing.append((f"the cluster has {len(row['tablespaces'])} further tablespaces ({where}), "
                        "which this does not copy", cure))  # fmt: skip
    if missing:
        raise ConfigurationError(f"{place}: {'; '.join(m for m, _ in missing)}", "; ".join(cure for _, cure in missing))
    if row["wal_senders"] >= row["max_wal_senders"]:
        raise TransientError(
            f"{place}: all {row['max_wal_senders']} WAL senders are taken",
            "end one of them or raise max_wal_senders; it is tried again",
        )


def identify(conninfo: str) -> tuple[str, int]:
    """Return system identifier and timeline, asked as a replication client: that shows that one is let in."""
    import psycopg

    place = backup_snapshot.place_of(conninfo)
    try:
        with psycopg.connect(conninfo, autocommit=True, replication="true", connect_timeout=10) as connection:
            said = connection.pgconn.exec_(b"IDENTIFY_SYSTEM")
            identifier, timeline = said.get_value(0, 0), said.get_value(0, 1)
    except psycopg.OperationalError as error:
        raise _not_let_in(place, str(error)) from None
    if not identifier or not timeline:
        raise TransientError(f"{place}: IDENTIFY_SYSTEM gave no answer", "see the server's log; it is tried again")
    return identifier.decode(), int(timeline)


def _not_let_in(place: str, text: str) -> Exception:
    if "no pg_hba.conf entry for replication" in text:
        return ConfigurationError(f"{place}: {' '.join(text.split())[:400]}", _HBA)
    return connect_error(place, text)


@contextmanager
def keep_wal(conninfo: str, name: str) -> Iterator[bool]:
    """Keep the server from recycling WAL while the block runs; gives whether it does.

    A temporary slot: the server drops it when this session ends, however it ends. Where no slot is free the backup is
    made all the same and fails, with a clear message, if WAL was recycled meanwhile.
    """
    import psycopg

    with backup_snapshot.connect(conninfo) as connection:
        kept = True
        connection.execute("set idle_session_timeout = 0")  # it does nothing for hours, and that is its use
        try:
            connection.execute("select pg_catalog.pg_create_physical_replication_slot(%s, true, true)", [name])
        except (psycopg.errors.ConfigurationLimitExceeded, psycopg.errors.ObjectNotInPrerequisiteState):
            kept = False
        yield kept


def command(programs: Programs, reach: Access, options: PhysicalOptions, label: str, parent: Path | None) -> list[str]:
    """Return the command line that writes one tar archive with everything in it, WAL included, to standard output."""
    line = [
        str(programs.path("pg_basebackup")),
        "--pgdata=-",
        "--format=tar",
        "--wal-method=fetch",
        f"--checkpoint={options.checkpoint}",
        f"--label={label}",
        "--no-password",
        f"--dbname={reach.conninfo}",
    ]
    if options.max_rate:
        line.append(f"--max-rate={options.max_rate}k")
    if parent is not None:
        line.append(f"--incremental={parent}")
    return line


def damaged_pages(lines: list[str]) -> list[str]:
    """Return `file block n` for every page that the server found damaged, in the words of pg_basebackup."""
    found = (_CHECKSUM.search(line) for line in lines)
    return [f"{match[1]} block {match[2]}" for match in found if match]


def read_server_manifest(data: bytes) -> ServerManifest:
    """Read `backup_manifest`. :raises DamagedError: it is not one."""
    try:
        told = json.loads(data)
        ranges = told["WAL-Ranges"]
        # The newest timeline comes first.
        return ServerManifest(
            timeline=int(ranges[0]["Timeline"]),
            start_lsn=str(ranges[-1]["Start-LSN"]),
            end_lsn=str(ranges[0]["End-LSN"]),
            files=len(told["Files"]),
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DamagedError(f"backup_manifest cannot be read: {error!r}", "it is not what the server wrote") from None
