"""The canary: a row written before each backup, found in it, and missed in a backup of something else or old."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from tests.integration.backup_world import RUN, World, world
from tests.integration.database_bench import Bench, database, server
from tests.integration.test_database_wrecks import standby_of
from upkeep.adapters import archive, backup_snapshot, fingerprint, postgres, workbench
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget
from upkeep.routines.backup import _canary


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world(max_wal_senders=4, wal_level="logical") as made:
        yield made


@pytest.fixture
def shop(lab: World) -> World:
    lab.database("shop", "create table t as select generate_series(1, 100) as n")
    lab.store.delete(lab.objects())
    return lab


def job(
    lab: World, lines: dict[str, str] | None = None, target: dict[str, Any] | None = None, **settings: Any
) -> tuple[Routine, Job[Any, Any]]:
    """Return the backup of a database; `lines` are the connections that differ from the database's own."""
    routine = Routine.load("upkeep.routines.backup.postgres")
    now = datetime.now(UTC)

    def conninfo(conn_id: str) -> str:
        return (lines or {}).get(conn_id, lab.dsn)

    tools = SimpleNamespace(
        archive=archive.make_archiver(conninfo, lambda _: lab.store, lab.scratch),
        postgres=postgres.opener(conninfo), workbench=workbench.opener(conninfo), now=lambda: datetime.now(UTC),
        log=logging.getLogger("test"), history=SimpleNamespace(series=lambda *_, **__: []), scratch=lab.scratch,
    )  # fmt: skip
    wanted = {"conn_id": "db", "maintenance_conn_id": "care", "id": lab.target, "store": lab.place.store}
    one = PostgresTarget(**{**wanted, **(target or {})})
    return routine, Job(
        routine="backup.postgres", target=one, system=SimpleNamespace(name="shop", store=None),  # type: ignore[arg-type]
        settings=routine.settings(programs=str(lab.postgres.bin), **settings), run_id=RUN, try_number=1, tools=tools,  # type: ignore[arg-type]
        window=Window(start=now - timedelta(days=1), end=now),
    )  # fmt: skip


def run(lab: World, *args: Any, **settings: Any) -> tuple[list[Any], list[Any]]:
    """Run the backup's lifecycle; return outcomes and all findings."""
    routine, one = job(lab, *args, **settings)
    seen = routine.observe(one)
    judged = routine.judge(one, seen)
    outcomes = [routine.act(one, action) for action in routine.plan(one, seen).actions]
    verified = routine.verify(one, seen, tuple(outcomes))
    return outcomes, [*judged.findings, *(f for o in outcomes for f in o.findings), *verified.findings]


def test_every_backup_holds_the_row_written_before_it(shop: World) -> None:
    """The table is made the first time, the counter grows, and each dump is found to hold its row."""
    for counter in (1, 2, 3):
        outcomes, findings = run(shop)
        assert findings == []
        assert outcomes[0].evidence["canary"]["counter"] == counter
    with shop.connect() as connection:
        row = connection.execute("select counter, run_id from upkeep_canary").fetchall()
    assert row == [(3, RUN)]


def test_several_targets_share_a_database(shop: World) -> None:
    """Each target has a row of its own; another's row, written before or meanwhile, is no reason for alarm."""
    run(shop, None, {"id": "shop/other"})
    routine, one = job(shop)
    seen = routine.observe(one)
    actions = routine.plan(one, seen).actions
    outcomes = [routine.act(one, actions[0])]
    with shop.connect() as connection:
        connection.execute("update upkeep_canary set counter = counter + 1 where target = 'shop/other'")
    outcomes.append(routine.act(one, actions[1]))
    assert routine.verify(one, seen, tuple(outcomes)).findings == ()


@pytest.mark.parametrize("what", ["for all tables", "for tables in schema public"])
def test_no_table_is_made_that_would_stop_logical_replication(shop: World, what: str) -> None:
    """A publication of whatever there is would send the canary to subscribers that have no such table, and stop."""
    with shop.connect() as connection, shop.postgres.connect() as other:
        connection.execute(f"create publication everything {what}".encode())
        other.execute("drop database if exists subscriber with (force)")
        other.execute("create database subscriber template template0")
        connection.execute("select pg_create_logical_replication_slot('far', 'pgoutput')")
        with psycopg.connect(shop.postgres.dsn("subscriber"), autocommit=True) as far:
            far.execute("create table t (n int)")
            way = f"connection '{shop.postgres.dsn('shop')}' publication everything"
            far.execute(
                f"create subscription s {way} with (create_slot = false, slot_name = 'far', copy_data = false)".encode()
            )
            try:
                outcomes, findings = run(shop)
                connection.execute("insert into t values (-1)")
                deadline = time.monotonic() + 20
                while not far.execute("select n from t where n = -1").fetchone():
                    assert time.monotonic() < deadline, "replication stands still"
                    time.sleep(0.1)
            finally:
                far.execute("alter subscription s disable")
                far.execute("alter subscription s set (slot_name = none)")
                far.execute("drop subscription s")
                connection.execute("drop publication everything")
        connection.execute(
            "select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where active_pid is not null"
        )
        connection.execute("select pg_drop_replication_slot('far')")
    assert outcomes[-1].status is OutcomeStatus.DONE
    assert [(f.check, f.severity) for f in findings] == [("canary", Severity.UNKNOWN)]
    assert "publication everything" in findings[0].message


def test_a_role_that_may_read_only_some_tables_still_dumps(shop: World) -> None:
    """The table is readable by all: else it would break the dumps of roles that were granted the tables there were."""
    shop.postgres.create_role("reader")
    with shop.connect() as connection:
        connection.execute("grant connect on database shop to reader")
        connection.execute("grant select on all tables in schema public to reader")
    findings = run(shop, {"db": shop.postgres.dsn("shop", "reader")})[1]
    assert {f.check for f in findings} <= {"roles"}  # it may not read those either


@pytest.mark.parametrize("major", [14])
def test_the_statement_agrees_with_the_proofs_of_backups(major: int) -> None:
    """What is seen right after writing is what a backup computes of the table, by an older server too."""
    with database(server(major), "hashes") as connection:
        connection.execute(_canary.CREATE.format(table="public.upkeep_canary").encode())
        for target in ("a/b", "c/d"):
            values = [target, datetime.now(UTC), "run"]
            connection.execute("insert into upkeep_canary values (%s, %s, %s, 7)", values)
        with postgres.open_session(
            connection.info.dsn + f" password={connection.info.password}", settings={"search_path": "pg_catalog,public"}
        ) as session:
            seen = session.rows("backup/canary_seen", target="a/b")[0]
        with backup_snapshot.connect(connection.info.dsn + f" password={connection.info.password}") as other:
            table = next(t for t in fingerprint.tables(other) if t.name[1] == _canary.TABLE)
            proof = fingerprint.prove(other, table)
    assert seen == {"counter": 7, "rows": proof.rows, "hash": proof.hash}


def test_the_wrong_database_is_critical(shop: World) -> None:
    """The backup's connection leads to another database, which is whole and dumps well: critical."""
    with shop.postgres.connect() as connection:
        connection.execute("drop database if exists twin with (force)")
        connection.execute("create database twin template shop")
    outcomes, findings = run(shop, {"dumps": shop.postgres.dsn("twin")}, {"backup_conn_id": "dumps"}, canary_wait=1)
    assert outcomes[-1].status is OutcomeStatus.DONE
    assert [(f.check, f.severity) for f in findings] == [("stale", Severity.CRITICAL)]
    assert "no such table" in findings[0].observed
    # Also when the other database has a canary of its own.
    with shop.postgres.connect() as connection:
        connection.execute("drop database twin with (force)")
        connection.execute("create database twin template shop")
    _, findings = run(shop, {"dumps": shop.postgres.dsn("twin")}, {"backup_conn_id": "dumps"}, canary_wait=1)
    assert [f.check for f in findings] == ["stale"]


def test_a_standby_that_stands_still_is_critical(shop: World) -> None:
    """A dump of a standby is fine as long as it follows, and critical once its replay is paused."""
    with standby_of(shop.postgres) as standby:
        lines = {"dumps": standby.dsn("shop")}
        outcomes, findings = run(shop, lines, {"backup_conn_id": "dumps"})
        assert findings == []
        assert outcomes[0].evidence["canary"]["arrived"]
        with standby.connect() as connection:
            connection.execute("select pg_wal_replay_pause()")
        outcomes, findings = run(shop, lines, {"backup_conn_id": "dumps"}, canary_wait=1)
        assert [(f.check, f.severity) for f in findings] == [("stale", Severity.CRITICAL)]
        assert "pg_wal_replay_resume" in findings[0].hint
        with standby.connect() as connection:
            connection.execute("select pg_wal_replay_resume()")
        assert run(shop, lines, {"backup_conn_id": "dumps"})[1] == []
        with shop.connect() as connection:
            connection.execute('create unlogged table "Sessions" (id int)')
        findings = run(shop, lines, {"backup_conn_id": "dumps"})[1]
        assert [(f.check, f.severity) for f in findings] == [("unlogged", Severity.WARNING)]
        assert "public.Sessions" in findings[0].message


def test_what_keeps_the_canary_from_being_written_does_not_keep_the_backup(shop: World) -> None:
    """A role that may not write, or a server that is away: unknown with the cure, and the backup is made."""
    shop.postgres.create_role("poor")
    with shop.connect() as connection:
        connection.execute("grant connect on database shop to poor")
        connection.execute("revoke create on schema public from public")
    for line in (shop.postgres.dsn("shop", "poor"), "postgresql://nobody@127.0.0.1:1/shop"):
        outcomes, findings = run(shop, {"care": line})
        assert [(f.check, f.severity) for f in findings] == [("canary", Severity.UNKNOWN)]
        assert "GRANT CREATE ON SCHEMA public" in findings[0].hint
        assert [o.status for o in outcomes] == [OutcomeStatus.SKIPPED, OutcomeStatus.DONE]
    with shop.connect() as connection:
        connection.execute("grant create on schema public to poor")
    assert run(shop, {"care": shop.postgres.dsn("shop", "poor")})[1] == []


def test_a_role_that_acts_for_the_owner_may_write_it(shop: World) -> None:
    """A member of the database's owner, as maintenance roles are, needs no further grant to make and write the row."""
    shop.postgres.create_role("landlord")
    shop.postgres.create_role("carer", member_of=("landlord",))
    with shop.connect() as connection:
        connection.execute("alter database shop owner to landlord")
        connection.execute("revoke create on schema public from public")
    assert run(shop, {"care": shop.postgres.dsn("shop", "carer")})[1] == []


def test_without_a_maintenance_connection_it_is_off_and_says_so(shop: World) -> None:
    """One information tells how to switch it on; switched off by setting, it says nothing and writes nothing."""
    outcomes, findings = run(shop, None, {"maintenance_conn_id": None})
    assert [(f.check, f.severity) for f in findings] == [("canary", Severity.INFO)]
    assert len(outcomes) == 1
    assert run(shop, canary=False)[1] == []
    with shop.connect() as connection:
        assert connection.execute("select to_regclass('upkeep_canary')").fetchone() == (None,)


def test_its_table_can_lie_elsewhere(shop: World) -> None:
    """In a schema of its own, whose name needs quotes, it is found too."""
    with shop.connect() as connection:
        connection.execute('create schema "user"')
    assert run(shop, canary_schema="user")[1] == []


def test_backups_that_differ_in_the_canary_only_are_equal(shop: World) -> None:
    """What it leaves out is the canary: the rest of two backups of a database at rest has one hash."""
    made = [run(shop)[0][-1].evidence["backup"]["id"] for _ in range(2)]
    first, second = (shop.archive.manifest(shop.place, backup_id) for backup_id in made)
    assert first.content_sha256 != second.content_sha256
    assert _canary.without(first).content_sha256 == _canary.without(second).content_sha256  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["database.health", "database.index_review"])
def test_reviews_do_not_complain_about_its_table(shop: World, name: str) -> None:
    """After many backups its table is no finding of health or of the review of indexes."""
    run(shop)
    with contextlib.closing(shop.connect()) as connection:
        for _ in range(200):
            connection.execute("update upkeep_canary set counter = counter + 1")
        connection.execute("select pg_stat_force_next_flush()" if shop.postgres.major >= 15 else "select 1")
    bench = Bench(Routine.load(f"upkeep.routines.{name}"), PostgresTarget(conn_id="db", id=shop.target), shop.dsn)
    assert not [f for f in bench.run().findings if "canary" in f"{f.subject} {f.message}"]
