"""Emergency restores on real servers: what comes back, what is kept, and the way back from every interruption."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from tests.integration.backup_world import BUCKET, RUN, World, world
from upkeep.adapters.recovery import make_recoverer
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError, UpkeepError
from upkeep.core.job import Job
from upkeep.core.model import Action, Outcome, OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.system import MaintenanceWindow
from upkeep.core.targets import PostgresTarget, Smoke, StoreRef, Volume

ROUTINE = "upkeep.routines.recovery.restore"
WORKER = Path(__file__).parents[1] / "faults" / "recovery_worker.py"
TABLES = (
    "create table claim (id int primary key, at timestamptz not null, amount numeric)",
    "create index claim_at on claim (at)",
    "insert into claim select i, now() - i * interval '1 minute', i from generate_series(1, 2000) as i",
    "create table note (id serial primary key, text text)",
    "insert into note (text) select md5(i::text) from generate_series(1, 500) as i",
)


# The oldest server is asked what may differ there: making and renaming databases, privileges, settings.
OLDEST, NEWEST = 14, 18
# By default the steps after which something different is to be undone; with UPKEEP_TEST_KILLS=100 all of them.
ALL = int(os.environ.get("UPKEEP_TEST_KILLS", "8")) >= 100
FAILED_AT = ("compare", "close shop", "between the two renames", "renamed", "ask as the application")
KILLED_AT = ("restore", "close shop", "between the two renames", "renamed", "roll back")
if ALL:
    FAILED_AT += (
        "fetch",
        "make shop__restored",
        "restore",
        "analyze",
        "smoke",
        "carry over",
        "rename shop",
        "verify as",
    )
    KILLED_AT += ("make shop__restored", "compare", "carry over", "rename shop", "verify as", "ask as the application")
ON_BOTH = pytest.mark.parametrize("lab", (OLDEST, NEWEST), ids=lambda major: f"pg{major}", indirect=True)
ON_NEWEST = pytest.mark.parametrize("lab", (NEWEST,), ids=lambda major: f"pg{major}", indirect=True)


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[World]:
    with world(request.param) as made:
        made.postgres.create_role("owner")
        made.postgres.create_role("app")
        yield made


@pytest.fixture
def shop(lab: World) -> World:
    """A database that was backed up and has changed since; nothing of earlier tests is left."""
    with lab.postgres.connect() as connection:
        for (name,) in connection.execute("select datname from pg_database where datname like 'shop%'").fetchall():
            connection.execute(f'drop database "{name}" with (force)'.encode())
    lab.database("shop", *TABLES)
    with lab.postgres.connect() as connection:
        for text in (
            "alter role owner with nocreatedb", "alter database shop owner to owner",
            "revoke all on database shop from public", "grant connect on database shop to app",
            "alter database shop set search_path to '$user', public, \"Odd, one\"",
            "alter database shop connection limit 40", "alter role app in database shop set work_mem to '8MB'",
            "comment on database shop is 'the shop'",
        ):  # fmt: skip
            connection.execute(text.encode())
    with lab.connect() as connection:
        connection.execute("grant select on claim, note to app")
        connection.execute("alter table claim owner to owner")
        connection.execute("alter table note owner to owner")
    lab.store.delete(lab.objects())
    lab.backup()
    with lab.connect() as connection:
        connection.execute("delete from claim where id > 10")
        connection.execute("drop table note")
    return lab


def tools(lab: World, user: str = "postgres", app: str = "app") -> Any:
    """Return the outside world; `user` is the role that restores."""
    dsns = {"db": lab.postgres.dsn("shop", app), "admin": lab.postgres.dsn("shop", user)}
    catalogue = SimpleNamespace(reachable=True, entries=lambda *_: ())
    return SimpleNamespace(
        recovery=make_recoverer(dsns.__getitem__, lambda _: lab.store, lab.scratch), catalogue=catalogue,
        now=lambda: datetime.now(UTC), log=logging.getLogger("test"), scratch=lab.scratch,
    )  # fmt: skip


def job(lab: World, *, user: str = "postgres", app: str = "app", **settings: Any) -> tuple[Routine, Job[Any, Any]]:
    routine, now = Routine.load(ROUTINE), datetime.now(UTC)
    target = PostgresTarget(
        conn_id="db", maintenance_conn_id="admin", id="shop/shop",
        store=StoreRef(url=f"s3://{BUCKET}/kept", conn_id="s"),
        volume=settings.pop("volume", Volume(path=str(lab.postgres.data_dir))),
        smoke={"claims": Smoke(sql="select count(*) from public.claim", least=settings.pop("least", 1000))},
    )  # fmt: skip
    system = SimpleNamespace(
        name="shop", store=None, rto=timedelta(hours=1), zone=UTC, maintenance_window=MaintenanceWindow()
    )
    chosen = {
        "reason": "a script deleted claims",
        "programs": str(lab.postgres.bin),
        "patience": 1,
        "drain": 5,
        **settings,
    }
    return routine, Job(
        routine="recovery.restore", target=target, system=system, settings=routine.settings(**chosen), run_id=RUN,  # type: ignore[arg-type]
        try_number=1, tools=tools(lab, user, app), window=Window(start=now, end=now),
    )  # fmt: skip


def flight(lab: World, **settings: Any) -> tuple[Any, list[Any], tuple[Action, ...]]:
    """Look, judge, plan."""
    routine, one = job(lab, **settings)
    seen = routine.observe(one)
    return seen, list(routine.judge(one, seen).findings), routine.plan(one, seen).actions


def restore(lab: World, tell: Callable[[str], None] = lambda _: None, **settings: Any) -> tuple[Outcome, list[Any]]:
    """Do all of it; `tell` hears of each step and may end it."""
    routine, one = job(lab, **settings)
    one.tools.log = SimpleNamespace(info=lambda text, *_: tell(text))  # type: ignore[misc]
    seen = routine.observe(one)
    [action] = routine.plan(one, seen).actions
    outcome = routine.act(one, action)
    return outcome, list(routine.verify(one, seen, (outcome,)).findings)


def names(lab: World) -> list[str]:
    with lab.postgres.connect() as connection:
        rows = connection.execute("select datname from pg_database where datname like 'shop%' order by 1").fetchall()
    return [name for (name,) in rows]


def facts(lab: World) -> dict[str, Any]:
    """Return what of the database itself must survive a restore."""
    with lab.postgres.connect() as connection:
        row = connection.execute(
            "select pg_get_userbyid(datdba), datallowconn, datconnlimit, shobj_description(oid, 'pg_database'),"
            " array(select unnest(datacl)::text order by 1),"
            " array(select setconfig::text || coalesce(setrole::text, '')"
            " from pg_db_role_setting where setdatabase = d.oid order by 1)"
            " from pg_database as d where datname = 'shop'"
        ).fetchone()
    assert row is not None
    return dict(zip(("owner", "open", "limit", "comment", "acl", "settings"), row, strict=True))


def claims(lab: World, database: str = "shop") -> int:
    with lab.postgres.connect(database) as connection:
        return int(connection.execute("select count(*) from claim").fetchone()[0])  # type: ignore[index]


def untouched(lab: World) -> None:
    """What was there before is there again, and nothing of ours beside it."""
    assert names(lab) == ["shop"] and claims(lab) == 10 and facts(lab)["open"]
    assert list(lab.scratch.glob("backup-*")) == []


@ON_BOTH
def test_it_comes_back_and_the_old_one_is_kept(shop: World):
    """Every row, owner, grant and setting is as before; the old database lies closed beside, undo works."""
    before = facts(shop)
    outcome, wrong = restore(shop)
    assert wrong == [] and outcome.status is OutcomeStatus.DONE, outcome
    assert [f.message for f in outcome.findings] == []
    assert claims(shop) == 2000 and facts(shop) == before
    kept = outcome.evidence["recovery"]["kept"]
    assert names(shop) == sorted(["shop", kept]) and "2 tables with 2500 rows" in outcome.detail
    with shop.postgres.connect() as connection:
        for line in outcome.evidence["recovery"]["undo"]:
            for text in line.split("; "):
                connection.execute(text.encode())
    assert claims(shop) == 10


@ON_NEWEST
def test_a_person_is_shown_what_is_at_stake(shop: World):
    """Size, rows, newest data, what came after the backup, who is connected, that it was never verified."""
    with shop.postgres.connect("shop", "app", application_name="webshop"):
        time.sleep(0.3)  # the counters of a session that has ended arrive within that
        seen, findings, [action] = flight(shop)
    assert [f for f in findings if f.severity is not Severity.OK] == []
    said = action.details
    assert "app webshop" in said["connected"] and said["replaced"] == "shop" and said["replaced_size_bytes"] > 1e6
    assert said["backup_holds"].startswith("2 tables, 2500 rows") and "never verified" in said["backup_proof"]
    assert "public.claim.at" in said["newest_data"] and "is not in the backup" in action.approval
    assert said["oid"] == seen.preflight.present.identity and action.reason == "a script deleted claims"


@ON_NEWEST
def test_a_reason_is_needed(shop: World):
    """Nobody restores without saying why."""
    with pytest.raises(ConfigurationError, match="needs a reason"):
        flight(shop, reason=" ")


@ON_NEWEST
@pytest.mark.parametrize("step", FAILED_AT)
def test_a_failure_at_any_step_changes_nothing(shop: World, step: str):
    """Whatever ends it, the old database has its name, takes connections, and nothing is left beside it."""
    before = facts(shop)

    def fail(text: str) -> None:
        if text.startswith(step):
            raise OSError(f"the power of {step} failed")

    with pytest.raises(OSError, match="power"):
        restore(shop, fail)
    untouched(shop)
    assert facts(shop) == before


@ON_NEWEST
def test_a_backup_without_the_rows_is_not_swapped_in(shop: World):
    """The smoke questions decide as well: a backup of an empty shop is whole, and of no use."""
    with pytest.raises(UpkeepError, match="smoke claims: 2000, expected at least 5000"):
        restore(shop, least=5000)
    untouched(shop)


@ON_NEWEST
def test_whoever_is_connected_is_cut_off_and_nobody_else(shop: World):
    """Sessions on the database end, those on others live on; a client that comes back meets the restored database."""
    shop.postgres.create_database("other")
    with shop.postgres.connect("other") as other, shop.postgres.connect("shop") as busy:
        busy.execute("begin")
        busy.execute("select count(*) from claim")
        restore(shop)
        with pytest.raises(psycopg.OperationalError):
            busy.execute("select 1")
        assert other.execute("select 1").fetchone() == (1,)
    assert claims(shop) == 2000


@ON_NEWEST
def test_a_role_that_is_no_superuser_restores_what_it_owns(shop: World):
    """CREATEDB and ownership are enough. Sessions it may not end stop the swap; settings it may not make are told."""
    with shop.postgres.connect() as connection:
        connection.execute("alter role owner createdb")
    mine: dict[str, Any] = {"user": "owner", "another_server": True}
    with shop.postgres.connect("shop"):
        _, findings, _ = flight(shop, **mine)
        assert [(f.check, f.severity) for f in findings] == [("sessions", Severity.WARNING)]
        with pytest.raises(UpkeepError, match="permission denied to terminate"):
            restore(shop, drain=1, **mine)
        untouched(shop)
    outcome, wrong = restore(shop, **mine)
    assert wrong == [] and claims(shop) == 2000
    assert [f.message for f in outcome.findings] == ["settings of the restored database differ from those before"]


@ON_NEWEST
def test_another_server_is_refused_unless_that_is_meant(shop: World):
    """The system identifier in the manifest is the guard, in the preflight and again before anything is made."""
    kept = shop.archive.stored(shop.place)[0].id
    key = f"{shop.target}/{kept}/manifest.json"
    manifest = shop.archive.manifest(shop.place, kept)
    from upkeep.core import backup as core

    other = manifest.model_copy(update={"source": manifest.source.model_copy(update={"system_identifier": "7"})})
    shop.store.write_bytes(key, core.encode(other))
    _, findings, actions = flight(shop)
    assert [(f.check, f.severity) for f in findings] == [("identity", Severity.CRITICAL)] and actions == ()
    routine, one = job(shop)
    with pytest.raises(UpkeepError, match="system identifier"):
        routine.act(one, Action(name="restore", subject="shop/shop", reason="", details={"backup": kept}))
    untouched(shop)
    assert flight(shop, another_server=True)[2]


@ON_BOTH
def test_what_stands_in_the_way_is_told_before(shop: World):
    """No CREATEDB, no ownership, no room, a missing role, no such backup: each with its cure."""

    def found(**more: Any) -> dict[str, str]:
        _, findings, actions = flight(shop, **more)
        bad = {f.check: f.hint for f in findings if f.severity is Severity.CRITICAL}
        assert bool(bad) == (not actions) and all(bad.values())
        return bad

    seen = found(user="app")
    assert "GRANT owner TO it" in seen["owners"]
    assert "ALTER ROLE app CREATEDB" in seen["privilege"] and "GRANT owner TO app" in seen["owner"]
    assert set(found(volume=Volume(size=1_000_000))) == {"space"}
    assert set(found(backup="20200101T000000Z-00000000")) == {"missing"}
    with shop.postgres.connect() as connection:
        connection.execute("create role clerk")
    with shop.connect() as connection:
        connection.execute("grant select on claim to clerk")
    shop.backup()
    with shop.connect() as connection:
        connection.execute("drop owned by clerk")
        connection.execute("drop role clerk")
    assert "CREATE ROLE" in found()["roles"]


@ON_BOTH
def test_a_database_that_is_gone_comes_back(shop: World):
    """Somebody dropped it: owner, settings and rows come from the dump."""
    with shop.postgres.connect() as connection:
        connection.execute("drop database shop with (force)")
    seen, findings, _ = flight(shop, app="postgres")
    assert not seen.preflight.present.exists and [f.check for f in findings] == ["safety"]
    assert flight(shop, app="postgres", without_safety_backup=True)[1] == []
    outcome, wrong = restore(shop, app="postgres", without_safety_backup=True)
    assert wrong == [] and outcome.evidence["recovery"]["kept"] == ""
    assert names(shop) == ["shop"] and claims(shop) == 2000
    now = facts(shop)
    assert (now["owner"], now["comment"]) == ("owner", None) and any("search_path" in s for s in now["settings"])


@ON_NEWEST
@pytest.mark.parametrize("step", KILLED_AT)
def test_a_killed_restore_is_undone_by_the_next_one(shop: World, step: str):
    """SIGKILL between the renames and elsewhere: the next restore goes back first, then does its work."""
    kill(shop, step)
    halves = flight(shop)[0].preflight.halves
    outcome, wrong = restore(shop)
    assert wrong == [] and claims(shop) == 2000, halves
    assert list(shop.scratch.glob("backup-*")) == []
    assert names(shop) == sorted(["shop", outcome.evidence["recovery"]["kept"]])
    with shop.postgres.connect() as connection:
        connection.execute(f'alter database "{outcome.evidence["recovery"]["kept"]}" allow_connections true'.encode())
    assert claims(shop, outcome.evidence["recovery"]["kept"]) == 10


@ON_NEWEST
def test_a_database_that_was_half_dropped_is_replaced(shop: World):
    """An interrupted DROP DATABASE leaves one that nobody can enter or alter; it is kept all the same."""
    with shop.postgres.connect() as connection:
        connection.execute("update pg_database set datconnlimit = -2 where datname = 'shop'")
    _, findings, [action] = flight(shop)
    assert [f.check for f in findings] == ["current"] and "invalid" in action.details["replaced_holds"]

    def fail(text: str) -> None:
        if text.startswith("ask as the application"):
            raise OSError("no power")

    with pytest.raises(OSError, match="power"):
        restore(shop, fail)
    assert names(shop) == ["shop"]
    outcome, wrong = restore(shop)
    assert wrong == [] and claims(shop) == 2000
    assert names(shop) == sorted(["shop", outcome.evidence["recovery"]["kept"]])


@ON_NEWEST
def test_what_is_half_done_can_be_mended_alone(shop: World):
    """Before the safety backup: the present database takes connections again, and nothing lies beside it."""
    kill(shop, "close shop")
    routine, one = job(shop, mend_only=True)
    seen = routine.observe(one)
    [action] = routine.plan(one, seen).actions
    outcome = routine.act(one, action)
    assert outcome.status is OutcomeStatus.DONE and "never swapped in" in outcome.detail
    assert routine.verify(one, seen, (outcome,)).findings == ()
    untouched(shop)
    assert routine.plan(one, routine.observe(one)).actions == ()


def kill(lab: World, step: str) -> None:
    """Let a worker restore and kill it right at a step."""
    order = {
        "db": lab.postgres.dsn("shop", "app"), "admin": lab.postgres.dsn("shop"), "endpoint": lab.s3.endpoint_url,
        "key": lab.s3.access_key, "secret": lab.s3.secret_key, "bucket": BUCKET, "scratch": str(lab.scratch),
        "programs": str(lab.postgres.bin), "backup": lab.archive.stored(lab.place)[0].id, "target": lab.target,
        "at": "verify as" if step == "roll back" else step, "fail": step == "roll back",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(WORKER), json.dumps(order)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
