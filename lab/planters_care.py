"""How the faults of the weekly, monthly and quarterly cadences are planted and taken away.

Rows that are needed for one are made and deleted again: the tables hold the same as without faults, the first time.
"""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, LiteralString

import psycopg

from lab.keeper import LOCKED
from lab.past import CAMPUS_LIMIT, size
from lab.process import LabError
from lab.systems import system

if TYPE_CHECKING:
    from lab.embedded import Lab

DEAD_ROWS = 20_000
# More than half of what autovacuum waits for, at any scale (see `share` of database.vacuum).
_DEAD_SHARE = 0.5
_VACUUMS = 50
_LOST_STUDENT = 999_999


def autovacuum_switched_off(lab: Lab, planted: bool) -> None:
    """Switch autovacuum off for a partition of the attendance and leave dead rows there, or undo both.

    In campus, where nobody holds a transaction open: its snapshot would keep rows in every database of the server.
    """
    with lab.connect("campus", as_owner=True) as owner:
        # First, or the table would grow with every planting. (Whoever reads rows that died earlier clears them half.)
        owner.execute("VACUUM attendance_older")
        if not planted:
            owner.execute("ALTER TABLE attendance_older RESET (autovacuum_enabled)")
            return
        owner.execute("ALTER TABLE attendance_older SET (autovacuum_enabled = off)")
        with owner.transaction():
            owner.execute(
                "INSERT INTO attendance (student_id, course_id, held_at, presence, remark)"
                " SELECT 1, 1, '2001-01-01', 'present', 'read in twice' FROM generate_series(1, %s)",
                [DEAD_ROWS],
            )
            owner.execute("DELETE FROM attendance WHERE remark = 'read in twice'")
        _differ_from_last_time(owner, "courses", "UPDATE courses SET title = title || '.' WHERE id = 1")


def bloated_index(lab: Lab, planted: bool) -> None:
    """Leave the index of the notifications' key mostly empty, as a purge does, or build it anew."""
    with lab.connect("student", as_owner=True) as owner:
        owner.execute("REINDEX INDEX notifications_pkey")  # first, or it would grow with every planting
        if not planted:
            return
        # Before the others, or its row keeps the table long.
        later = "UPDATE notifications SET queued_at = queued_at + interval '1 second' WHERE id = 50"
        _differ_from_last_time(owner, "notifications", later)
        with owner.transaction():
            owner.execute(
                "INSERT INTO notifications (id, student_id, channel, queued_at)"
                " SELECT 1000000000 + i, 1, 'purged', now() FROM generate_series(1, 30000) i"
            )
            owner.execute("DELETE FROM notifications WHERE channel = 'purged'")
        _vacuum_wholly(owner, "notifications")


def changed_setting(lab: Lab, planted: bool) -> None:
    """Let autovacuum of the sample cluster wait longer than molecular's file says, or as long as it says."""
    verb = "SET autovacuum_vacuum_scale_factor = 0.3" if planted else "RESET autovacuum_vacuum_scale_factor"
    with lab.clusters["sample"].connect() as admin:
        admin.execute(f"ALTER SYSTEM {verb}")
        admin.execute("SELECT pg_reload_conf()")


def duplicate_index(lab: Lab, planted: bool) -> None:
    """Make the index on the mass of molecules a second time, or drop that one."""
    with lab.connect("molecular", as_owner=True) as owner:
        owner.execute(
            "CREATE INDEX IF NOT EXISTS molecules_mass_again ON molecules (mass)"
            if planted
            else "DROP INDEX IF EXISTS molecules_mass_again"
        )


def invalid_index(lab: Lab, planted: bool) -> None:
    """Let a concurrent build of a unique index fail, which leaves an invalid one, or drop that one."""
    with lab.connect("campus", as_owner=True) as owner:
        if not planted:
            owner.execute("DROP INDEX IF EXISTS students_name_once")
            return
        with suppress(psycopg.errors.UniqueViolation):
            owner.execute("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS students_name_once ON students (name)")


def locked_table(lab: Lab, planted: bool) -> None:
    """Lock a table of cardiology against VACUUM and ANALYZE, and give it dead rows; or let it go."""
    if not planted:
        lab.keeper.stop()
        return
    lab.keeper.start()  # first, or autovacuum may be quicker
    with lab.connect("cardiology", as_owner=True) as owner:
        if not _has_dead_rows(owner, LOCKED):
            with owner.transaction():
                owner.execute(f"INSERT INTO {LOCKED} SELECT at, 'exported twice', client, true FROM {LOCKED}")
                owner.execute(f"DELETE FROM {LOCKED} WHERE account = 'exported twice'")


def lost_references(lab: Lab, planted: bool) -> None:
    """Let a prediction of the SQLite file point to a student who does not exist, or remove it."""
    with closing(sqlite3.connect(lab.sqlite_file)) as db, db:
        db.execute("DELETE FROM predictions WHERE student_id = ?", [_LOST_STUDENT])
        if planted:
            db.execute(
                "INSERT INTO predictions (id, student_id, probability, explanation, made_at)"
                " VALUES (?, ?, 0.5, '{}', '2026-01-01')",
                [_LOST_STUDENT, _LOST_STUDENT],
            )


def restart_needed(lab: Lab, planted: bool) -> None:
    """Change a setting in campus's file that takes effect at a restart; the lab's next start writes the file anew."""
    campus = lab.clusters["campus"]
    conf = campus.pgdata / "lab.conf"
    lines = [line for line in conf.read_text().splitlines() if not line.endswith("# planted")]
    conf.write_text("\n".join([*lines, "max_connections = 90  # planted"] if planted else lines) + "\n")
    with campus.connect() as admin:
        admin.execute("SELECT pg_reload_conf()")


def slow_reports(lab: Lab, planted: bool) -> None:
    """Start or end the process that asks for slow reports."""
    if planted:
        lab.keeper.start()
    else:
        lab.keeper.stop()


def limit_nearly_reached(lab: Lab, planted: bool) -> None:
    """State a limit for campus in the lab's copy of its file that it will reach in two months, if it goes on so."""
    if planted:
        file = lab.system_files / "campus.yaml"
        limit = int(CAMPUS_LIMIT * size(lab, system("campus"))[0])
        text, found = re.subn(r"limit_bytes: [^}\n]+", f"limit_bytes: {limit}", file.read_text())
        assert found == 1
        file.write_text(text)


def _differ_from_last_time(owner: psycopg.Connection, table: str, change: LiteralString) -> None:
    """Change something where it was planted before: backups of equal content, and so much written, would be a fault."""
    before = owner.execute("SELECT obj_description(%s::regclass)", [table]).fetchone()
    if before == ("planted",):
        owner.execute(change)
    owner.execute(psycopg.sql.SQL("COMMENT ON TABLE {} IS 'planted'").format(psycopg.sql.Identifier(table)))


def _vacuum_wholly(owner: psycopg.Connection, table: str) -> None:
    """Vacuum until no dead row is left: a report that runs just then sees what is as old as a forgotten transaction."""
    # What this session has done counts before VACUUM says what is left, or it would be added afterwards.
    owner.execute("SELECT pg_stat_force_next_flush()")
    for _ in range(_VACUUMS):
        owner.execute(f"VACUUM {table}")
        if not _has_dead_rows(owner, table):
            owner.execute(f"ANALYZE {table}")
            return
        time.sleep(0.1)
    raise LabError(f"{table} still has dead rows after {_VACUUMS} vacuums")


def _has_dead_rows(owner: psycopg.Connection, table: str) -> bool:
    """Tell whether dead rows of an earlier planting are still there."""
    row = owner.execute(
        "SELECT n_dead_tup > %s * n_live_tup FROM pg_stat_user_tables WHERE relid = %s::regclass", [_DEAD_SHARE, table]
    ).fetchone()
    return bool(row and row[0])
