"""Copies of SQLite databases in a folder: made while the database is in use, proved, and put in place at once.

A copy is `<time in UTC>-<random>.db` with a note beside it, `.json`. Both are written under names ending in `.partial`
and renamed when they are complete and on disk, the note first: a `.db` is always whole and always has its note.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pydantic

from upkeep.adapters import sqlite
from upkeep.adapters._sqlite_copy import Moved, copy_consistently
from upkeep.adapters._sqlite_errors import not_done
from upkeep.adapters._sqlite_fingerprint import Fingerprint, fingerprint
from upkeep.core.errors import ConfigurationError, UnsafeError
from upkeep.core.sqlite import NotDone, SqliteCopy

_NAME = r"\d{8}T\d{12}Z-[0-9a-f]{8}"
_COPY = re.compile(rf"{_NAME}\.db")
_NOTE = re.compile(rf"{_NAME}\.json")
_PARTIAL = re.compile(rf"{_NAME}\.(?:db|json)\.partial")
_LOCK = ".lock"


class _Held(Exception):
    """Somebody else writes in the folder."""


class Keep:
    """The folder with the copies of one database; see `core.sqlite.SqliteKeep`."""

    def __init__(self, root: Path, target_id: str) -> None:
        parts = target_id.split("/")
        if not all(re.fullmatch(r"[\w.-]+", part) and part.strip(".") for part in parts):
            raise ConfigurationError(f"target id {target_id!r} cannot be the name of a folder", "correct the id")
        self._root = root
        self._folder = root.joinpath(*parts)

    @property
    def folder(self) -> str:
        """Where the copies lie."""
        return str(self._folder)

    @property
    def volume(self) -> str:
        """A folder that exists, on the volume where the copies are to lie."""
        return str(next(p for p in (self._folder, *self._folder.parents) if p.is_dir()))

    def copies(self) -> tuple[SqliteCopy, ...]:
        """Return the copies whose size is as noted, newest first."""
        found = (self._read(path) for path in sorted(self._names(_COPY), reverse=True))
        return tuple(copy for copy in found if copy)

    def is_good(self, copy: SqliteCopy) -> bool:
        """Read a copy and tell whether it still has its hash."""
        try:
            return _sha256(self._folder / copy.name) == copy.sha256
        except OSError:
            return False

    def spoilt(self) -> tuple[str, ...]:
        """Read every copy and return the names of those that are not as noted, newest first."""
        fits = {copy.name for copy in self.copies() if self.is_good(copy)}
        return tuple(path.name for path in sorted(self._names(_COPY), reverse=True) if path.name not in fits)

    def leftovers(self) -> tuple[str, ...]:
        """Return the files that a killed writer has left; none while one is at work."""
        if not self._folder.is_dir():
            return ()
        try:
            with self._locked(make=False):
                return self._left()
        except (_Held, OSError):
            return ()

    def sweep(self) -> tuple[str, ...] | NotDone:
        """Remove the leftovers: with the lock in hand, whatever is partial has nobody who writes it."""
        try:
            with self._locked():
                names = self._left()
                for name in names:
                    (self._folder / name).unlink(missing_ok=True)
                return names
        except _Held:
            return self._held()

    def copy(
        self, path: str, *, busy_timeout: float, seconds: float, hold_seconds: float
    ) -> tuple[SqliteCopy, bool] | NotDone:
        """Copy a database that is in use, and prove the copy; see `core.sqlite.SqliteKeep`."""
        try:
            with self._locked():
                return self._copy(path, busy_timeout, seconds, hold_seconds)
        except _Held:
            return self._held()
        except Moved as error:
            return NotDone("moved", str(error))
        except sqlite3.Error as error:
            return not_done(error)
        except OSError as error:
            return NotDone("other", f"{self._folder}: {error.strerror}")

    def remove(self, copies: tuple[SqliteCopy, ...], keep: int) -> tuple[SqliteCopy, ...] | NotDone:
        """Remove those copies that are older than the newest `keep` good ones; nothing without so many."""
        try:
            with self._locked():
                here, good = self.copies(), 0
                for at, copy in enumerate(here):
                    good += self.is_good(copy)
                    if good >= max(keep, 1):
                        removed = tuple(c for c in here[at + 1 :] if c.name in {gone.name for gone in copies})
                        for gone in removed:
                            (self._folder / gone.name).unlink()
                            self._note(gone.name).unlink()
                        return removed
                return ()
        except _Held:
            return self._held()

    def _copy(
        self, path: str, busy_timeout: float, seconds: float, hold_seconds: float
    ) -> tuple[SqliteCopy, bool] | NotDone:
        deadline = time.monotonic() + seconds
        made = datetime.now(UTC)
        name = f"{made:%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}.db"
        partial = self._folder / f"{name}.partial"
        last = next((copy for copy in self.copies() if self.is_good(copy)), None)
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
            with sqlite.connected(path, busy_timeout=busy_timeout) as source:
                seen = copy_consistently(source, partial, deadline, hold_seconds, last.content if last else "")
            if last and seen.content == last.content:
                return last, False
            wrong = self._prove(partial, seen, deadline)
            if wrong:
                return NotDone("damaged", f"the copy is not what its source is: {wrong}")
            return self._put_in_place(partial, name, path, made, seen), True
        finally:
            partial.unlink(missing_ok=True)

    def _prove(self, partial: Path, seen: Fingerprint, deadline: float) -> str:
        """Tell what is wrong with a copy."""
        # A copy of a database in WAL mode has that mode; `immutable` needs no log and makes no file beside it.
        uri = f"file:{quote(str(partial))}?mode=ro&immutable=1"
        with (
            closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as copy,
            sqlite.limited(copy, max(deadline - time.monotonic(), 0)),
        ):
            said = [str(row["message"]) for row in sqlite.rows(copy, "sqlite/integrity_check", {"most": 5})]
            if said != ["ok"]:
                return "; ".join(said)[:500]
            return ", ".join(fingerprint(copy).differences(seen)[:10])

    def _put_in_place(self, partial: Path, name: str, path: str, made: datetime, seen: Fingerprint) -> SqliteCopy:
        copy = SqliteCopy(
            name=name,
            source=path,
            made=made,
            size_bytes=partial.stat().st_size,
            sha256=_sha256(partial),
            content=seen.content,
            tables=len(seen.tables),
            rows=seen.rows,
        )
        note = self._note(name)
        unfinished = note.with_name(f"{note.name}.partial")
        unfinished.touch(mode=0o600)
        unfinished.write_text(copy.model_dump_json(indent=2), encoding="utf-8")
        for written in (unfinished, partial):
            _sync(written)
        unfinished.rename(note)
        partial.rename(self._folder / name)
        _sync(self._folder)
        return copy

    def _read(self, path: Path) -> SqliteCopy | None:
        try:
            copy = SqliteCopy.model_validate_json(self._note(path.name).read_bytes())
            fits = copy.name == path.name and path.stat().st_size == copy.size_bytes
        except (OSError, pydantic.ValidationError):
            return None
        return copy if fits else None

    def _note(self, name: str) -> Path:
        return self._folder / f"{name.removesuffix('.db')}.json"

    def _names(self, pattern: re.Pattern[str]) -> list[Path]:
        try:
            return [path for path in self._folder.iterdir() if pattern.fullmatch(path.name)]
        except FileNotFoundError:
            return []

    def _left(self) -> tuple[str, ...]:
        whole = {path.name.removesuffix(".db") for path in self._names(_COPY)}
        lonely = [path for path in self._names(_NOTE) if path.name.removesuffix(".json") not in whole]
        return tuple(sorted(path.name for path in [*self._names(_PARTIAL), *lonely]))

    @contextmanager
    def _locked(self, make: bool = True) -> Iterator[None]:
        """Be the only one who writes in the folder. The system lets go of the lock of whoever dies."""
        if make:
            self._make()
        flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
        lock = os.open(self._folder / _LOCK, flags, 0o600)
        try:
            with contextlib.suppress(InterruptedError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise _Held from None
        finally:
            os.close(lock)

    def _held(self) -> NotDone:
        return NotDone("locked", f"{self._folder}: another run is writing a copy there")

    def _make(self) -> None:
        """Make the folder: what is in a database is nobody else's business.

        :raises UnsafeError: it belongs to somebody else, or others can read it.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        for folder in reversed([f for f in (self._folder, *self._folder.parents) if f.is_relative_to(self._root)]):
            if folder != self._root:
                folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UnsafeError(
                f"{self._folder}: mode {stat.filemode(found.st_mode)}, owner {found.st_uid}; expected a folder"
                f" that only user {os.getuid()} can read",
                "correct its owner and mode (0700), or set `keep_folder`",
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Have what was written on disk, for a folder the names in it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
