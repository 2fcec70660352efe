"""One routine on one target in one run, and the outside things it may use."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from upkeep.core.audit import Auditor
from upkeep.core.backup import Archiver
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Catalogue
from upkeep.core.copies import Copies
from upkeep.core.drift import Drifts
from upkeep.core.http import NoReply, Reply, Request
from upkeep.core.log_review import LogReader
from upkeep.core.model_health import Models
from upkeep.core.outdated import OutdatedLister, Updater
from upkeep.core.physical import Physical
from upkeep.core.recovery import Recoverer
from upkeep.core.restore import Restorer
from upkeep.core.rotation import Rotator
from upkeep.core.sqlite import SqliteWorkshop
from upkeep.core.system import System
from upkeep.core.targets import Target
from upkeep.core.tree import Trees


@dataclass(frozen=True)
class Failed:
    """Why a statement gave no rows, as a value: the statements beside it are not lost with it.

    `gone`: the connection is lost; `timeout`: a time-out or time budget passed; `locked`: somebody holds a lock;
    `damaged`: the database says that it is. `sqlstate` is PostgreSQL's error code.
    """

    reason: Literal["privilege", "timeout", "locked", "gone", "damaged", "other"]
    message: str
    sqlstate: str = ""


class Server(Protocol):
    """A read-only session on a PostgreSQL database, opened with `tools.postgres(conn_id, ...)`.

    `version` is server_version_num (160004), `place` host, port and database, `connect_ms` what connecting took.
    See `adapters.postgres`.
    """

    version: int
    place: str
    connect_ms: float
    round_trips: int

    def rows(self, statement: str, /, **values: Any) -> list[dict[str, Any]]:
        """Run the statement named `<area>/<name>` in the variant for this server's version.

        :raises UpkeepError: it failed; `TransientError` when that may pass by itself.
        """
        ...

    def batch(self, wanted: Mapping[str, Mapping[str, Any]], /) -> dict[str, list[dict[str, Any]] | Failed]:
        """Run several statements (name -> values) in one round trip, each in a transaction of its own."""
        ...

    def plans(self, wanted: Sequence[tuple[str, str]], /) -> list[dict[str, Any] | Failed]:
        """Return, for each (statement, search_path), its plan for any parameters (a node of EXPLAIN's JSON).

        Nothing is executed but functions that planning evaluates; see `adapters.postgres`.
        """
        ...


@dataclass(frozen=True)
class ServerNotice:
    """Something a server said while it worked: `INFO`, `WARNING` ..., and text (verbose reports have many lines)."""

    severity: str
    message: str


@dataclass(frozen=True)
class Ran:
    """A command that was carried out."""

    seconds: float
    notices: tuple[ServerNotice, ...] = ()


class Workbench(Server, Protocol):
    """A session that may change a database, opened with `tools.workbench(conn_id, ...)`; see `adapters.workbench`."""

    pid: int

    def run(
        self, command: str, /, *, names: Mapping[str, Sequence[str]] | None = None, seconds: float | None = None
    ) -> Ran | Failed:
        """Carry out one command, outside any transaction, as VACUUM and CONCURRENTLY demand.

        :param command: text with `{placeholders}` for identifiers only.
        :param names: for every placeholder the parts of its name: `{"table": ("public", "claim")}`.
        :param seconds: the server gives the command up after so long; None: it has all the time.
        """
        ...

    def cancel(self) -> None:
        """Ask the server to give up what it does for this session; may be called from another thread."""
        ...


@dataclass(frozen=True)
class Disk:
    """Bytes of a volume; `free` is what a user without privileges may still take."""

    total: int
    free: int


class SqliteFile(Protocol):
    """A SQLite database opened read-only with `tools.sqlite(path, ...)`; see `adapters.sqlite`."""

    path: str

    def ask(self, statement: str, /, *, seconds: float, **values: Any) -> list[dict[str, Any]] | Failed:
        """Run the statement named `<area>/<name>`; give up after `seconds`."""
        ...


class Point(Protocol):
    """One kept measurement."""

    @property
    def at(self) -> datetime: ...
    @property
    def value(self) -> float: ...


class History(Protocol):
    """What the ledger remembers of earlier runs of this target; empty when the ledger is away."""

    def last(self, name: str, subject: str = "") -> Point | None:
        """Return the newest earlier measurement of this target and routine."""
        ...

    def series(self, name: str, subject: str = "", limit: int = 90) -> Sequence[Point]:
        """Return up to `limit` earlier measurements, oldest first."""
        ...

    def latest(self, name: str) -> Mapping[str, Point]:
        """Return the newest earlier measurement of every subject under a name."""
        ...

    def of(self, routine: str) -> History:
        """Return what is remembered of another routine on the same target, such as `model.drift`."""
        ...


class Http(Protocol):
    """A service that answers over HTTP: one client, one connection, one request after the other.

    Opened with `tools.http(conn_id=..., base_url=...)`, of which exactly one is given; see `adapters.http`.
    """

    def ask(self, request: Request) -> Reply | NoReply:
        """Send a request and return the answer, or why there was none.

        :raises ConfigurationError: the request cannot be sent at all (an address that is none).
        """
        ...


@dataclass(frozen=True)
class Tools:
    """The outside world, as handed to a routine. Each entry opens one kind of thing."""

    postgres: Callable[..., AbstractContextManager[Server]]
    workbench: Callable[..., AbstractContextManager[Workbench]]
    disk: Callable[[str], Disk | Failed]
    sqlite: Callable[..., AbstractContextManager[SqliteFile]]
    sqlite_work: SqliteWorkshop
    http: Callable[..., AbstractContextManager[Http]]
    archive: Archiver
    restorer: Restorer
    physical: Physical
    copies: Copies
    trees: Trees
    recovery: Recoverer
    logs: LogReader
    drifts: Drifts
    auditor: Auditor
    outdated: OutdatedLister
    updates: Updater
    rotator: Rotator
    models: Models
    history: History
    catalogue: Catalogue
    now: Callable[[], datetime]
    log: logging.Logger
    scratch: Path


@dataclass(frozen=True)
class Job[T: Target, S]:
    """One routine on one target in one run.

    `until` is when the maintenance window closes: work that would not be done by then is not begun. `still_alone`
    raises when an exclusive routine's hold on its target is lost; work that lasts calls it, in the task's own thread,
    while it waits.
    """

    routine: str
    target: T
    system: System
    settings: S
    window: Window
    run_id: str
    try_number: int
    tools: Tools
    until: datetime | None = None
    still_alone: Callable[[], None] = lambda: None
