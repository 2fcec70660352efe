"""Index rebuilds beside an application at work: nobody waits for us, and whom we would wait for is named."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from tests.integration.database_bench import MAJORS, until
from tests.integration.database_bench import server as shared
from tests.integration.reindex_bench import ROUTINE, Bench, bloated, invalid, size
from upkeep.core.model import Ended, Severity
from upkeep.core.routine import Routine

WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE application_name = 'upkeep database.reindex' AND wait_event_type = 'Lock'"
)


@pytest.fixture(params=[MAJORS[-1]], ids=str)
def pg(request: pytest.FixtureRequest) -> PostgresServer:
    return shared(request.param)


@pytest.fixture
def db(pg: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with bloated(pg) as connection:
        yield connection


@contextlib.contextmanager
def holding(pg: PostgresServer, *statements: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a session inside a transaction that has executed some statements."""
    with contextlib.closing(pg.connect("claims", application_name="web")) as holder:
        for statement in ("BEGIN", *statements):
            holder.execute(statement.encode())
        yield holder


@dataclass
class Beside:
    """Something done in a thread, with its result, its error and how long it took."""

    deed: Callable[[], Any]
    result: Any = None
    errors: list[BaseException] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._do)
        self.thread.start()

    def _do(self) -> None:
        begun = time.monotonic()
        try:
            self.result = self.deed()
        except BaseException as error:
            self.errors.append(error)
        self.seconds = time.monotonic() - begun

    def end(self) -> Any:
        """Wait for the end and return the result."""
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.errors:
            raise self.errors[0]
        return self.result


@pytest.mark.parametrize("pg", [MAJORS[0], MAJORS[-1]], indirect=True, ids=str)
def test_writers_never_wait(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Inserts, updates and deletes go on all the while: none takes as long as the lock time-out, none is lost."""
    slowest: list[float] = []
    stop = threading.Event()

    def write(number: int) -> int:
        rows = 0
        with contextlib.closing(pg.connect("claims")) as writer:
            while not stop.is_set():
                key = 1_000_000 * number + rows
                for statement in (
                    "INSERT INTO visit VALUES (%s, %s)",
                    "UPDATE visit SET at = at + 1 WHERE id IN (%s, %s)",
                ):
                    begun = time.perf_counter()
                    writer.execute(statement, [key, key])
                    slowest.append(time.perf_counter() - begun)
                rows += 1
        return rows

    writers = [Beside(lambda n=n: write(n)) for n in (1, 2)]
    try:
        work = Bench(pg.dsn("claims")).run()
    finally:
        stop.set()
    written = sum(w.end() for w in writers)
    assert {a.status for a in work.actions.values()} == {"done"} and len(work.actions) == 2, work.findings
    assert max(slowest) < 0.5 and len(slowest) > 50
    db.execute("SET enable_seqscan = off")
    [kept] = db.execute("SELECT count(*) FROM visit WHERE at > 1000000").fetchone() or ()
    assert kept == written and invalid(db) == []


@pytest.mark.parametrize("pg", [MAJORS[0], MAJORS[-1]], indirect=True, ids=str)
def test_an_old_transaction_is_named_and_nothing_begun(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Whoever holds a lock on the table or an old snapshot anywhere is in the way, a prepared transaction too."""
    bench = Bench(pg.dsn("claims"))
    db.execute("CREATE TABLE other (id int)")
    held = {
        "snapshot": ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM other"],
        "reader": ["SELECT 'secret' FROM visit LIMIT 1"],
        "locker": ["LOCK TABLE visit IN SHARE UPDATE EXCLUSIVE MODE"],
    }
    for statements in held.values():
        with holding(pg, *statements) as holder:
            work = bench.run(old_transaction_seconds=0)
            blocked = work.finding("blocked", "public.visit_at")
            assert blocked.severity is Severity.WARNING and f"pid {holder.info.backend_pid} " in blocked.message
            assert "(web)" in blocked.message and "secret" not in blocked.message
            assert {a.status for a in work.actions.values()} == {"skipped"} and invalid(db) == []
    db.execute("BEGIN")
    db.execute("UPDATE visit SET note = 'y' WHERE id = 10")
    db.execute("PREPARE TRANSACTION 'two phase'")
    blocked = bench.run(old_transaction_seconds=0).finding("blocked", "public.visit_at")
    assert "prepared transaction two phase" in blocked.message
    db.execute("ROLLBACK PREPARED 'two phase'")
    assert bench.run(old_transaction_seconds=0).troubles == []


def test_who_is_in_the_way_is_waited_for_at_the_end(pg: PostgresServer, db: psycopg.Connection[Any]):
    """One table's blocker stalls no other table; it is tried again when all else is done."""
    db.execute("CREATE TABLE other (id int PRIMARY KEY) WITH (autovacuum_enabled = false)")
    db.execute("INSERT INTO other SELECT generate_series(1, 20000)")
    db.execute("DELETE FROM other WHERE id % 10 <> 0")
    db.execute("VACUUM other")
    before = size(db, "other_pkey")
    with holding(pg, "UPDATE visit SET note = 'x' WHERE id = 10") as holder:
        run = Beside(lambda: Bench(pg.dsn("claims")).run(old_transaction_seconds=0, patience_seconds=20))
        until(lambda: size(db, "other_pkey") < before / 5, "the other table")
        holder.execute("COMMIT")
        work = run.end()
    assert work.troubles == [] and {a.status for a in work.actions.values()} == {"done"} and len(work.actions) == 3


def test_a_wait_has_its_own_limit(pg: PostgresServer, db: psycopg.Connection[Any]):
    """One too young to be in the way at first is waited for so long and named; what is left goes next time."""
    bench = Bench(pg.dsn("claims"))
    with holding(pg, "UPDATE visit SET note = 'x' WHERE id = 10") as holder:
        begun = time.monotonic()
        work = bench.run(wait_seconds=1, lock_timeout=0.3, old_transaction_seconds=0.8)
        assert 1 <= time.monotonic() - begun < 6
        blocked = work.finding("blocked", "public.visit_at")
        assert f"pid {holder.info.backend_pid} " in blocked.message
        assert work.finding("leftover").subject == "public.visit_at_ccnew"  # its removal would wait for the same
        assert {f.check for f in work.troubles} == {"blocked", "leftover"}
    assert bench.run().troubles == [] and invalid(db) == []


def test_a_blocked_try_leaves_nothing_when_the_second_succeeds(pg: PostgresServer, db: psycopg.Connection[Any]):
    """What the first try left behind is dropped with what the second leaves."""
    with holding(pg, "UPDATE visit SET note = 'x' WHERE id = 10") as holder:
        bench = Bench(pg.dsn("claims"))
        run = Beside(lambda: bench.run(wait_seconds=1, old_transaction_seconds=0.8, patience_seconds=20))
        until(lambda: invalid(db), "the first try")
        until(lambda: not db.execute(WAITING).fetchone(), "its end")
        until(lambda: not db.execute(WAITING).fetchone(), "the end of the removal")
        time.sleep(1.5)
        holder.execute("COMMIT")
        work = run.end()
    assert work.troubles == [] and invalid(db) == []
    assert {a.status for a in work.actions.values()} == {"done"}


@pytest.mark.parametrize("pg", [MAJORS[0], MAJORS[-1]], indirect=True, ids=str)
@pytest.mark.parametrize("deed", ["ALTER TABLE visit ADD extra int", "LOCK TABLE visit IN SHARE MODE"])
def test_a_rebuild_gives_way(pg: PostgresServer, db: psycopg.Connection[Any], deed: str):
    """Who wants a lock that ours forbids has it within a second, and all queries behind it; no deadlock kills them."""
    db.execute("CREATE TABLE other (id int)")
    with holding(pg, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM other") as holder:
        run = Beside(lambda: Bench(pg.dsn("claims")).run(wait_seconds=30))
        until(lambda: db.execute(WAITING).fetchone(), "our waiting")
        with (
            contextlib.closing(pg.connect("claims")) as application,
            contextlib.closing(pg.connect("claims")) as reader,
        ):
            migration = Beside(lambda: application.execute(f"BEGIN; {deed}; COMMIT".encode()))
            time.sleep(0.05)
            query = Beside(lambda: reader.execute("UPDATE visit SET note = 'z' WHERE id = 20"))
            migration.end()
            query.end()
        assert max(migration.seconds, query.seconds) < 1.5
        holder.execute("COMMIT")
        work = run.end()
    assert work.troubles == [] or {f.check for f in work.troubles} == {"blocked"}
    assert invalid(db) == []


def test_a_lock_on_the_table_is_not_waited_for(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Under an exclusive lock for the whole run the table is left alone and named, and so is what is invalid there."""
    with (
        contextlib.closing(pg.connect("claims")) as builder,
        holding(pg, "UPDATE visit SET note = 'x' WHERE id = 10"),
        pytest.raises(psycopg.errors.LockNotAvailable),
    ):
        builder.execute("SET lock_timeout = '50ms'")
        builder.execute("REINDEX INDEX CONCURRENTLY visit_at")
    bench = Bench(pg.dsn("claims"))
    with holding(pg, "LOCK TABLE visit"):
        begun = time.monotonic()
        work = bench.run()
        assert time.monotonic() - begun < 5
    # Its size and bloat cannot be read either: there is nothing to begin with, and that is said.
    assert work.actions == {} and work.finding("locked", "public.visit").severity is Severity.UNKNOWN
    assert work.finding("locked", "public.visit_at_ccnew").severity is Severity.UNKNOWN
    assert bench.run().troubles == [] and invalid(db) == []


def test_a_lock_that_comes_between_is_not_waited_for(pg: PostgresServer, db: psycopg.Connection[Any]):
    """Taken when the plan was made: the table is put off and its blocker named."""
    bench = Bench(pg.dsn("claims"))
    routine = Routine.load(ROUTINE)
    job = bench.job(routine, {})
    plan = routine.plan(job, routine.observe(job))
    assert routine.act_all is not None and len(plan.actions) == 2
    with holding(pg, "LOCK TABLE visit") as holder:
        begun = time.monotonic()
        pid = holder.info.backend_pid
        steps = [step for batch in routine.act_all(job, plan.actions) for step in batch]
        assert time.monotonic() - begun < 5
    ended = [step.outcome for step in steps if isinstance(step, Ended)]
    assert [o.status for o in ended] == ["skipped", "skipped"] and len(steps) == 2
    assert f"pid {pid} " in ended[0].findings[0].message
