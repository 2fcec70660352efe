"""Restore tests: what is asked of one, what it showed, and what a routine needs of whoever carries it out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from upkeep.core.backup import Leftover, Place, TableProof
from upkeep.core.model import Model
from upkeep.core.targets import Smoke

Method = Literal["local", "docker"]


class Options(Model):
    """How to test. Times are in seconds."""

    jobs: int = Field(2, ge=1)
    fetch_jobs: int = Field(4, ge=1)
    programs: str = Field("", description="folder with PostgreSQL's programs; default: as for backups")
    max_share: float = Field(0.8, gt=0, le=1, description="share of the scratch folder's free space that it may take")
    size_factor: float = Field(1.2, gt=0, description="size of the restored database by that of the source")
    amcheck: bool = True
    smoke: dict[str, Smoke] = {}
    smoke_timeout: float = Field(60, gt=0)
    start_timeout: float = Field(900, gt=0, description="recovery of a physical backup included")
    method: Method = "local"
    image: str = Field("postgres:{major}", description="what a container is made from; `{major}` is filled in")
    docker_conn_id: str = Field("", description="connection to the Docker daemon; default: this machine's usual socket")
    docker_memory: int = Field(2 << 30, ge=1, description="bytes that a container may take")


class RangeDifference(Model):
    """Rows whose key lies between `low` and `high` (inclusive; None: beyond) are not those of the proof."""

    low: int | None
    high: int | None
    expected: str
    seen: str


class TableDifference(Model):
    """A table (or `sequence`, `large objects`) that is not as the manifest says, and where in it, by key ranges."""

    what: Literal["table", "sequence", "large objects"] = "table"
    name: str
    expected: str
    seen: str
    key: str = ""
    ranges: tuple[RangeDifference, ...] = ()

    def told(self) -> str:
        """Return it in words."""
        where = "".join(
            f"; {self.key} {'...' if r.low is None else r.low} to {'...' if r.high is None else r.high}"
            for r in self.ranges[:3]
        )
        more = f" and {len(self.ranges) - 3} more ranges" if len(self.ranges) > 3 else ""
        return f"{self.what} {self.name}: {self.seen}, expected {self.expected}{where}{more}"


class SmokeResult(Model):
    """How a restored database answered one question of its system."""

    ok: bool
    seen: str
    expected: str
    seconds: float


class Missing(Model):
    """What the worker lacks for a full test; that says nothing against the backup. `stops`: the test did not begin."""

    what: Literal["server", "extension", "collation", "role", "space", "amcheck", "definition"]
    name: str
    message: str
    hint: str
    stops: bool = False


class Canary(Model):
    """The newest row that the canary had written when the backup was taken."""

    written_at: datetime
    age_seconds: float


class Tested(Model):
    """What a restore test showed. `phases` are seconds; moments are in UTC."""

    id: str
    kind: Literal["dump", "physical"]
    started: datetime
    snapshot_time: datetime
    phases: dict[str, float] = {}
    server_version: str = ""
    method: Method = "local"
    missing: tuple[Missing, ...] = ()
    failures: tuple[str, ...] = Field((), description="why it could not be restored")
    corruption: tuple[str, ...] = Field((), description="what pg_amcheck and pg_checksums complained of")
    checked: tuple[str, ...] = Field((), description="which of amcheck, checksums, fingerprints were done")
    differences: tuple[TableDifference, ...] = ()
    smoke: dict[str, SmokeResult] = {}
    canary: Canary | None = None
    notes: tuple[str, ...] = Field((), description="what was left out on purpose")
    tables: int = 0
    rows: int = 0
    archive_bytes: int = 0
    source_bytes: int = 0

    @property
    def stopped(self) -> bool:
        """Whether the test could not even begin."""
        return any(m.stops for m in self.missing)

    @property
    def ok(self) -> bool:
        """Whether everything that was looked at is as it must be."""
        bad = self.stopped or self.failures or self.corruption or self.differences
        return not bad and all(s.ok for s in self.smoke.values())

    @property
    def seconds(self) -> float:
        """How long everything took together."""
        return sum(self.phases.values())

    @property
    def recovery_seconds(self) -> float:
        """How long it took until the database could be worked with: what an RTO is about, without the proof."""
        return sum(self.phases.get(name, 0.0) for name in ("fetch", "start", "restore"))


def range_differences(expected: TableProof, seen: TableProof) -> tuple[RangeDifference, ...]:
    """Return the ranges in which two proofs differ, and the room beyond them when rows lie there."""
    if not expected.ranges or len(expected.ranges) != len(seen.ranges):
        return ()
    found = [
        RangeDifference(
            low=a.low, high=a.high, expected=f"{a.rows} rows, hash {a.hash}", seen=f"{b.rows} rows, hash {b.hash}"
        )
        for a, b in zip(expected.ranges, seen.ranges, strict=True)
        if (a.rows, a.hash) != (b.rows, b.hash)
    ]
    outside = seen.rows - sum(r.rows for r in seen.ranges)
    if outside:
        found.append(RangeDifference(low=None, high=None, expected="0 rows", seen=f"{outside} rows with keys beyond"))
    return tuple(found)


class Restorer(Protocol):
    """Carries out restore tests; see `adapters.restore_test`. Every method raises `UpkeepError`s."""

    def test(self, place: Place, backup_id: str, options: Options, say: Callable[[str], None]) -> Tested:
        """Restore a backup into a server of its own, compare it with its manifest, and remove the server.

        :raises TransientError: the scratch server or the store went away in the middle.
        """
        ...

    def leftovers(self, target: str, options: Options) -> tuple[Leftover, ...]:
        """List the scratch servers of tests whose worker is gone; in containers as well when those are asked for."""
        ...

    def sweep(self, target: str, options: Options) -> tuple[Leftover, ...]:
        """End and remove them, and return them."""
        ...
