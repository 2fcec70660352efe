"""Bringing back what was lost: what is asked for, what stands there now, what was done, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from upkeep.core.backup import Database, Leftover, Place
from upkeep.core.model import Model, Severity
from upkeep.core.targets import Smoke, Volume

LATEST = "latest"


class Order(Model):
    """What a person wants back, and from which backup.

    `foreign` says that the person knows this to be another server, or another machine, than the one backed up.
    """

    place: Place
    backup: str = Field(LATEST, description="id of a backup, or `latest`")
    run_id: str
    foreign: bool = False
    jobs: int = Field(2, ge=1)
    programs: str = ""
    volume: Volume | None = None
    patience: float = Field(600, ge=0, description="seconds to wait for other maintenance of the same target")


class DatabaseOrder(Order):
    """A PostgreSQL database.

    `server` reaches the server in a database that is not restored, as a role that may create and rename databases;
    `application` is how the application connects; `name` is the database that is replaced.
    """

    server: Database
    application: Database
    smoke: dict[str, Smoke] = {}
    drain: float = Field(20, ge=1, description="seconds in which ended sessions must have gone")


class TreeOrder(Order):
    """Folders and single files that a tree backup holds; `paths` are the target's own, with their globs."""

    paths: tuple[str, ...] = Field(min_length=1)
    exclude: tuple[str, ...] = ()
    secret: bool = False


class Chosen(Model):
    """The backup that will be used, as its manifest tells it."""

    id: str
    location: str
    finished: datetime
    size_bytes: int
    source_bytes: int = 0
    rows: int | None = None
    tables: int | None = None
    files: int | None = None
    writes: int | None = None
    server_version: str = ""
    system_identifier: str = ""
    encrypted: bool = False


class Session(Model):
    """Somebody who is connected and will be cut off."""

    role: str
    application: str
    address: str
    state: str
    count: int = 1


class Present(Model):
    """What stands where the backup is to go, and what of it came after the backup. None: it did not say.

    `identity` tells it from anything else that may carry the name later (OID of a database, inodes of folders).
    """

    name: str
    exists: bool
    identity: str = ""
    size_bytes: int | None = None
    rows: int | None = None
    items: int | None = Field(None, description="tables, or files")
    changed: int | None = Field(None, description="rows written, or files changed, since the backup")
    newest: datetime | None = None
    newest_in: str = ""
    sessions: tuple[Session, ...] = ()
    trouble: str = Field("", description="why it cannot be looked into; empty when it can")


class Obstacle(Model):
    """Something that a person must know or mend before: `critical` ones stop the restore before it begins."""

    check: str
    subject: str
    severity: Severity
    message: str
    hint: str
    observed: str = ""
    limit: str = ""


class Preflight(Model):
    """What was seen before anything is done. Without a backup there is nothing to choose."""

    chosen: Chosen | None
    present: Present
    obstacles: tuple[Obstacle, ...] = ()
    halves: tuple[str, ...] = Field((), description="what earlier restores left half done, and what becomes of it")

    @property
    def possible(self) -> bool:
        """Whether nothing stands in the way."""
        return self.chosen is not None and not any(o.severity is Severity.CRITICAL for o in self.obstacles)


class Step(Model):
    """One step of the work: when it began, how long it took, what it showed."""

    name: str
    began: datetime
    seconds: float
    detail: str = ""


class Restored(Model):
    """What was brought back. `kept` is where what stood there before is now, `undo` how to go back to it."""

    backup: str
    name: str
    kept: str
    undo: tuple[str, ...]
    steps: tuple[Step, ...]
    proof: str
    warnings: tuple[str, ...] = ()
    closed_seconds: float = Field(description="for how long nobody could work with it")

    @property
    def seconds(self) -> float:
        """From the first step to the last."""
        return sum(step.seconds for step in self.steps)


class Part(Model):
    """One part of a system that is brought back in a place of its own, from its backup alone.

    `source`, `paths` are where it lives; they are asked only afterwards, for what has changed since.
    """

    name: str
    place: Place
    smoke: dict[str, Smoke] = {}
    source: Database | None = None
    paths: tuple[str, ...] = ()


class Rebuild(Model):
    """What a whole system is brought back from, and how it shows that it works."""

    target: str
    run_id: str
    parts: tuple[Part, ...]
    services: tuple[str, ...] = ()
    start_seconds: float = Field(60, gt=0)
    jobs: int = Field(2, ge=1)
    programs: str = ""


class PartBack(Model):
    """What became of one part. `lost` says in words what the source has that this backup has not."""

    name: str
    kind: str
    backup: str = ""
    taken: datetime | None = None
    proof: str = ""
    trouble: str = ""
    hint: str = ""
    unknown: bool = Field(False, description="the worker lacks something; nothing is known of the backup")
    lost: str = ""
    changed: int | None = None
    seconds: float = 0


class Answered(Model):
    """What one endpoint of the rebuilt system said."""

    endpoint: str
    well: bool
    said: str
    seconds: float


class Rebuilt(Model):
    """What became of a whole system. `seconds` is until its services answered, without looking at the sources."""

    parts: tuple[PartBack, ...]
    answers: tuple[Answered, ...] = ()
    services: Literal["none", "answered", "not started"] = "none"
    trouble: str = ""
    steps: tuple[Step, ...]
    seconds: float


Tell = Callable[[str], None]
Asking = Callable[[str], tuple[Answered, ...]]
"""Asks the services at an address and returns what each endpoint said."""


class Recoverer(Protocol):
    """Brings back databases, files and whole systems; see `adapters.recovery`. Methods raise `UpkeepError`s."""

    def look(self, order: DatabaseOrder | TreeOrder) -> Preflight:
        """Look at backup, target and server; change nothing."""
        ...

    def mend(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> tuple[str, ...]:
        """Go back from what an earlier restore left half done; return what was done, in words."""
        ...

    def restore(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> Restored:
        """Restore beside, compare with the manifest, swap by rename; on any failure leave what was there before."""
        ...

    def rebuild(self, order: Rebuild, tell: Tell, ask: Asking) -> Rebuilt:
        """Bring a whole system back in a scratch place, ask its services, and remove everything again."""
        ...

    def leftovers(self, target: str) -> tuple[Leftover, ...]:
        """List the scratch places of rebuilds whose worker is gone."""
        ...

    def sweep(self, target: str) -> tuple[Leftover, ...]:
        """End and remove them, and return them."""
        ...
