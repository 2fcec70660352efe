"""The ledger on a real PostgreSQL: projections, exactly-once replay, faults."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Action, Finding, Measurement, Severity
from upkeep.ledger import events as ev
from upkeep.ledger import store
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger, LedgerHistory
from upkeep.ledger.verdict import judge_run

AT = datetime(2026, 11, 21, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as running:
        yield running


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"ledger_{abs(hash(request.node.name)) % 10**9}"
    server.create_database(name)
    return server.dsn(name)


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(lambda: database, Spool(tmp_path / "spool"))
    yield made
    made.close()


def key(run: str = "r1", target: str = "claims/db", tries: int = 1) -> ev.RoutineKey:
    return ev.RoutineKey(
        dag_id="maintenance_daily", run_id=run, routine="database.health", target=target, try_number=tries
    )


def story(routine: ev.RoutineKey, value: float = 0.5, at: datetime = AT) -> list[ev.Event]:
    """Everything that one routine says in its life."""
    run = ev.RunKey(dag_id=routine.dag_id, run_id=routine.run_id)
    item = ev.Expected.Item(routine=routine.routine, target=routine.target, system="claims")
    found = Finding(check="sequence", subject="public.s", severity=Severity.WARNING, message="96 %", hint="alter")
    measured = Measurement(name="used", subject="public.s", value=value, unit="1")
    action = Action(name="backup", subject="claims", reason="daily", details={"jobs": 2})
    kept = {"id": "b1", "location": "s3://x", "manifest_sha256": "00", "size_bytes": 5, "source_bytes": 9}
    return [
        ev.RunOpened(
            at=at, run=run, cadence="daily", run_type="scheduled", window_start=AT, window_end=AT + timedelta(days=1)
        ),
        ev.Expected(at=at, run=run, items=(item,)),
        ev.RoutineOpened(at=at, routine=routine, system="claims", role="dba", title="Health"),
        ev.Observed(
            at=at, routine=routine, stage="judge", system="claims", measurements=(measured,), findings=(found,)
        ),
        ev.ActionOpened(at=at, routine=routine, number=1, action=action),
        ev.ActionClosed(
            at=at, routine=routine, system="claims", number=1, status="done", detail="ok", evidence={"backup": kept}
        ),
        ev.RoutineClosed(at=at, routine=routine, state="success", severity=Severity.WARNING),
        ev.RunClosed(at=at, run=run, verdict=Severity.WARNING),
        ev.ReportKept(at=at, run=run, html="<p>", markdown="#"),
    ]


def count(ledger: Ledger, table: str) -> int:
    with psycopg.connect(ledger._conninfo()) as connection:
        return connection.execute(f"select count(*) from upkeep.{table}").fetchone()[0]


TABLES = ("event", "run", "expectation", "routine_run", "measurement", "finding", "action", "backup", "report")


def test_every_event_has_its_projection(ledger: Ledger):
    """One story fills every table once, and the record read back tells it again."""
    assert ledger.write(*story(key()))
    assert {table: count(ledger, table) for table in TABLES} == {**dict.fromkeys(TABLES, 1), "event": 9}
    record = ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r1"))
    assert record.routines[0].actions[0].evidence["backup"]["id"] == "b1"
    assert judge_run(record).severity is Severity.WARNING


def test_writing_twice_changes_nothing(ledger: Ledger):
    """The same events again, and the same try under new event ids, give the same rows."""
    said = story(key())
    ledger.write(*said)
    ledger.write(*said)
    assert count(ledger, "event") == 9
    ledger.write(*story(key()))
    rows = {table: count(ledger, table) for table in TABLES if table != "event"}
    assert set(rows.values()) == {1}


def test_a_whole_run_without_ledger_is_replayed_exactly_once(
    ledger: Ledger, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    """Everything waits in order while the server is down, and is there once, in order, when it is back."""
    monkeypatch.setattr(store, "RETRY_AFTER_SECONDS", 0)
    ledger.write(*story(key("r0"), value=0.1))
    server.kill()
    said = story(key("r1"), value=0.9)
    assert [ledger.write(event) for event in said] == [False] * len(said)
    away = ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r1"))
    assert away.routines[0].measurements[0].value == 0.9
    server.start()
    assert ledger.write(*story(key("r2"), value=0.2))
    assert not ledger.spool
    assert count(ledger, "event") == 27
    order = [row["body"]["kind"] for row in ledger.ask("events_of_run", dag_id="maintenance_daily", run_id="r1")]
    assert order == [event.kind for event in said if event.kind != "report_kept"]


def test_the_connection_cut_at_any_statement_loses_and_doubles_nothing(
    ledger: Ledger, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    """The server kills the ledger's session at random moments during many writes."""
    monkeypatch.setattr(store, "RETRY_AFTER_SECONDS", 0)
    stop = threading.Event()

    def killer() -> None:
        with server.connect() as connection:
            while not stop.wait(random.uniform(0.002, 0.03)):
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'upkeep ledger'"
                )

    thread = threading.Thread(target=killer)
    thread.start()
    for number in range(30):
        ledger.write(*story(key(f"r{number}")))
    stop.set()
    thread.join()
    ledger.write(*story(key("last")))
    assert not ledger.spool and ledger.spool.rejected == 0
    assert count(ledger, "event") == 31 * 9
    assert count(ledger, "measurement") == 31


def test_processes_migrate_at_the_same_time(database: str, tmp_path: Path):
    """Two workers that meet an empty database apply each migration once."""
    errors: list[Exception] = []

    def write(number: int) -> None:
        ledger = Ledger(lambda: database, Spool(tmp_path / str(number)))
        if not ledger.write(*story(key(f"r{number}"))):
            errors.append(RuntimeError(ledger.away_reason))
        ledger.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_newer_schema_is_refused_and_nothing_is_lost(ledger: Ledger, database: str):
    """An old package on a new ledger spools instead of writing into tables that it does not know."""
    ledger.write(*story(key()))
    with psycopg.connect(database, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute("insert into upkeep.migration (version, name, sha256) values (999, 'later', '')")
        with pytest.raises(ConfigurationError, match="version 999"):
            store.migrate(connection)
    ledger.close()
    assert not ledger.write(*story(key("r2")))
    assert "999" in ledger.away_reason
    assert len(list(ledger.spool.events())) == 9


def test_a_dead_try_is_marked_by_the_next(ledger: Ledger):
    """A try whose worker was killed is closed as died when the next one opens."""
    ledger.write(*story(key())[:4])
    ledger.write(*story(key(tries=2))[2:3])
    with psycopg.connect(ledger._conninfo()) as connection:
        states = connection.execute("select try_number, state from upkeep.routine_run order by 1").fetchall()
    assert states == [(1, "died"), (2, "running")]


def test_history_is_of_earlier_runs(ledger: Ledger):
    """A routine is never compared with itself."""
    for number, value in enumerate((1.0, 2.0, 3.0)):
        ledger.write(*story(key(f"r{number}"), value=value, at=AT + timedelta(days=number)))
    history = LedgerHistory(ledger, key("r2"))
    assert [point.value for point in history.series("used", "public.s")] == [1.0, 2.0]
    assert history.last("used", "public.s").value == 2.0
    assert history.latest("used")["public.s"].value == 2.0
    assert history.last("used", "other") is None


def test_history_of_another_routine(ledger: Ledger):
    """What another routine measured on the same target is there too, also in this run; other targets' is not."""
    mine = key("r1")
    other = mine.model_copy(update={"routine": "model.scores"})
    ledger.write(*story(other, value=7.0))
    ledger.write(*story(other.model_copy(update={"target": "other/one", "run_id": "r2"}), value=8.0))
    history = LedgerHistory(ledger, mine)
    assert history.last("used", "public.s") is None
    assert history.of("model.scores").last("used", "public.s").value == 7.0
    assert history.of("model.drift").series("used", "public.s") == []
    # It is the end of its window that counts to a routine that answers for one.
    assert LedgerHistory(ledger, mine, AT - timedelta(days=99)).of("model.scores").last("used", "public.s") is None


def test_history_of_a_window_knows_no_later_one(ledger: Ledger):
    """A backfill, whenever it runs, sees what a run on time would have seen; a window that was answered twice, once."""
    day = timedelta(days=1)

    def answer(run: str, window: int, value: float, after: int) -> None:
        opened, *rest = story(key(run), value=value, at=AT + after * day)
        window_of_run = {"window_start": AT + window * day, "window_end": AT + (window + 1) * day}
        ledger.write(opened.model_copy(update=window_of_run), *rest)

    for run, window, value, after in (
        ("on-time", 0, 1.0, 1),
        ("newest", 4, 9.0, 5),
        ("late", 1, 2.0, 6),
        ("again", 0, 1.5, 7),
    ):
        answer(run, window, value, after)
    answer("backfill", 2, 3.0, 8)
    history = LedgerHistory(ledger, key("backfill"), AT + 2 * day)
    assert [point.value for point in history.series("used", "public.s")] == [1.5, 2.0]
    assert history.last("used", "public.s").value == 2.0
    assert history.latest("used")["public.s"].value == 2.0
    assert LedgerHistory(ledger, key("again"), AT).series("used", "public.s") == []
    assert LedgerHistory(ledger, key("backfill")).last("used", "public.s").value == 1.5


def test_a_document_is_kept_whole_and_once(ledger: Ledger, database: str):
    """Whatever an action made is found under its hash; the row of the action does not repeat it."""
    content = "{}\n" * 5000 + "ä"
    made = {"artefact": {"name": "sbom.json", "media_type": "application/json", "sha256": "?", "content": content}}
    for run in ("r1", "r2"):
        ledger.write(
            *(e.model_copy(update={"evidence": made}) if e.kind == "action_closed" else e for e in story(key(run)))
        )
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select a.name, a.target, c.content, c.sha256 from upkeep.artefact as a join upkeep.artefact_content as c"
            " using (sha256)"
        ).fetchall()
        kept = connection.execute("select evidence from upkeep.action").fetchall()
    assert rows == [("sbom.json", "claims/db", content, hashlib.sha256(content.encode()).hexdigest())] * 2
    assert count(ledger, "artefact_content") == 1
    assert all("content" not in evidence["artefact"] for (evidence,) in kept)


def test_a_finding_that_comes_back_is_new(ledger: Ledger):
    """A run that looked and did not find it ends the streak; one that could not look does not."""
    finding = "claims/db|database.health|sequence|public.s"
    days = [AT + timedelta(days=n) for n in range(5)]
    for number in (0, 2, 4):
        ledger.write(*story(key(f"r{number}"), at=days[number]))
    clean = [e for e in story(key("r1"), at=days[1]) if e.kind != "observed"]
    blind = [
        e.model_copy(update={"state": "failed", "reason": "no connection"}) if e.kind == "routine_closed" else e
        for e in story(key("r3"), at=days[3])
        if e.kind != "observed"
    ]
    ledger.write(*clean, *blind)
    assert ledger.ask("first_seen", keys=[finding]) == [{"key": finding, "first_seen": days[2], "times": 2}]


def test_a_server_restarted_meanwhile_is_not_away(ledger: Ledger, server: PostgresServer):
    """A cut connection is opened again at once, for reading and for writing."""
    ledger.write(*story(key()))
    for deed in (lambda: ledger.ask("recent_runs", limit=5), lambda: ledger.write(*story(key("r2")))):
        server.stop()
        server.start()
        assert deed()
    assert not ledger.spool


def test_old_rows_are_forgotten_and_evidence_stays(ledger: Ledger):
    """Measurements go after their time; findings, actions and backups stay."""
    ledger.write(*story(key(), at=AT - timedelta(days=2000)))
    ledger.prune(measurement_days=400, report_days=1100)
    rows = {table: count(ledger, table) for table in TABLES}
    assert (rows["measurement"], rows["report"]) == (0, 0)
    assert (rows["finding"], rows["action"], rows["backup"]) == (1, 1, 1)


def test_hostile_text_is_kept_as_it_is(ledger: Ledger):
    """Nothing that a database or a service says can break a statement."""
    nasty = "x'); drop table upkeep.event;-- \x00 \u202e <script>%s %(id)s {} \\"
    said = ev.RoutineClosed(at=AT, routine=key(), state="failed", severity=Severity.CRITICAL, reason=nasty)
    assert ledger.write(*story(key())[:3], said)
    record = ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r1"))
    assert record.routines[0].reason == nasty.replace("\x00", "\u2400")


def test_a_role_that_may_create_nothing_uses_what_is_there(
    ledger: Ledger, server: PostgresServer, database: str, tmp_path: Path
):
    """The owner makes the schema once; from then on a role with plain rights on its tables is enough."""
    name = database.rsplit("/", 1)[1]
    server.create_role("writer")
    with server.connect(name) as owner:
        owner.execute(f"grant connect on database {name} to writer")
    weak = Ledger(lambda: server.dsn(name, "writer"), Spool(tmp_path / "weak"))
    assert not weak.write(*story(key("r0")))
    assert "permission denied for database" in weak.away_reason and "CREATE" in weak.away_reason
    assert ledger.write(*story(key("r1")))
    with server.connect(name) as owner:
        owner.execute("grant usage on schema upkeep to writer")
        owner.execute("grant select, insert, update, delete on all tables in schema upkeep to writer")
    again = Ledger(lambda: server.dsn(name, "writer"), Spool(tmp_path / "weak"))
    assert again.write(*story(key("r2")))
    again.close()
    assert count(ledger, "event") == 27


def test_a_read_only_ledger_answers_and_what_is_new_waits(ledger: Ledger, server: PostgresServer, database: str):
    """On a standby after a failover earlier runs can be read; new events wait for the day it is promoted."""
    assert ledger.write(*story(key("r0")))
    ledger.close()
    name = database.rsplit("/", 1)[1]
    with server.connect() as owner:
        owner.execute(f"alter database {name} set default_transaction_read_only = on")
    assert ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r0")).closed is not None
    assert not ledger.write(*story(key("r1")))
    assert "read-only" in ledger.away_reason and len(list(ledger.spool.events())) == 9


def test_a_ledger_that_stands_still_holds_nobody_up(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """A frozen server neither answers nor times out by itself; the events go to the spool."""
    monkeypatch.setattr(store, "ANSWER_SECONDS", 1)
    assert ledger.write(*story(key("r0")))
    backend = ledger._connect().info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        while Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            pass
        assert not ledger.write(*story(key("r1")))
    finally:
        os.kill(backend, signal.SIGCONT)
    assert len(list(ledger.spool.events())) == 9


@pytest.mark.parametrize("waits", [True, False], ids=["events wait", "nothing waits"])
def test_a_spool_that_cannot_be_used_keeps_nothing_out_of_the_ledger(
    database: str, tmp_path: Path, waits: bool, caplog: pytest.LogCaptureFixture
):
    """The ledger takes new events although the spool's folder is broken, and that is said once."""
    folder = tmp_path / "spool"
    folder.mkdir()
    if waits:
        Spool(folder).append(story(key("r0"))[0])
        (folder / "lock").unlink()
    (folder / "lock").mkdir()  # root may write into folders that are read-only, so that will not do
    ledger = Ledger(lambda: database, Spool(folder))
    assert ledger.write(*story(key("r1")))
    assert ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r1")).closed is not None
    ledger.close()
    assert len([r for r in caplog.records if r.levelname == "CRITICAL"]) == (1 if waits else 0)


def test_events_that_can_go_nowhere_stand_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """No ledger and no spool: work goes on, and each lost event is in the task's log."""
    (tmp_path / "spool").touch()
    ledger = Ledger(lambda: "host=127.0.0.1 port=1", Spool(tmp_path / "spool"))
    said = story(key())
    assert not ledger.write(*said)
    assert ledger.record(ev.RunKey(dag_id="maintenance_daily", run_id="r1")).routines == ()
    lost = [r.getMessage() for r in caplog.records if "unrecorded event" in r.getMessage()]
    assert [ev.EVENT.validate_json(line.split("event ", 1)[1]) for line in lost] == said


def test_an_event_in_ledger_and_spool_is_told_once(ledger: Ledger):
    """When the answer to a commit is lost, the event stands in both places."""
    told = ev.Escalated(
        at=AT, run=ev.RunKey(dag_id="maintenance_daily", run_id="r1"), cause="failure", subject="s", system="claims",
        rung=1, message="m",
    )  # fmt: skip
    ledger.write(told)
    ledger.spool.append(told)
    assert len(ledger.record(told.run).escalations) == 1
