"""Errors of SQLite as values."""

from __future__ import annotations

import sqlite3

from upkeep.core.sqlite import NotDone

_REASONS = {
    sqlite3.SQLITE_BUSY: "locked",
    sqlite3.SQLITE_LOCKED: "locked",
    sqlite3.SQLITE_INTERRUPT: "timeout",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "privilege",
    sqlite3.SQLITE_PERM: "privilege",
    sqlite3.SQLITE_CANTOPEN: "privilege",
    sqlite3.SQLITE_CORRUPT: "damaged",
    sqlite3.SQLITE_NOTADB: "damaged",
}


def not_done(error: sqlite3.Error) -> NotDone:
    """Sort an error of SQLite by its primary result code (https://www.sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return NotDone(_REASONS.get(code, "other"), str(error), getattr(error, "sqlite_errorname", ""))  # type: ignore[arg-type]
