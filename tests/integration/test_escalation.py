"""From a failed task or a late run to messages and rows, against a real ledger and a real mail server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.mail_server import MailServer
from upkeep import escalation
from upkeep.adapters.notify import Notifier
from upkeep.core.errors import ConfigurationError, CriticalFindingError
from upkeep.core.model import Finding, Severity
from upkeep.escalation.desk import Desk
from upkeep.escalation.duties import duty_of
from upkeep.escalation.failure import tell_failed
from upkeep.escalation.late import LateRun, tell_late
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.base import RoutineOperator
from upkeep.operators.report import VerdictOperator
from upkeep.systems.load import load_all

AT = datetime(2026, 3, 1, 1, tzinfo=UTC)
RUN = ev.RunKey(dag_id="maintenance_daily", run_id="scheduled__2026-03-01T01:00:00+00:00")
SYSTEM = """
name: {name}
title: A system
contacts:
  dba:
    primary: {{name: DBA, channels: [{{kind: email, address: dba@{name}.example}}]}}
  ops:
    primary: {{name: Operations, channels: [{{kind: email, address: ops@{name}.example}}]}}
ladder:
  deadlines: {{daily: {late}}}
  rungs: [{{after: 0 s}}, {{after: 30 min, roles: [ops]}}]
targets:
  db: {{kind: postgres, conn_id: {name}_db}}
{more}
"""


class HealthOperator(RoutineOperator):
    """An operator of a routine that this test's ledger knows."""

    routine = "somewhere.routines.database.health"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the ledger."""
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as running:
        yield running


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server."""
    with MailServer() as running:
        yield running


class Site:
    """Systems, ledger and mail of one test."""

    def __init__(self, folder: Path, dsn: str, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.mail = folder / "systems", mail
        self.folder.mkdir()
        monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(self.folder))
        monkeypatch.setenv("UPKEEP_HOME", str(folder / "home"))
        self.ledger = Ledger(lambda: dsn, Spool(folder / "spool"))
        self.connections = [_smtp(mail)]
        self.system("shop")
        self.system("store")

    def system(self, name: str, late: str = "1 h", more: str = "") -> None:
        """Write a system file."""
        (self.folder / f"{name}.yaml").write_text(SYSTEM.format(name=name, late=late, more=more))

    def desk(self, run: ev.RunKey) -> AbstractContextManager[Desk]:
        """Open a desk as every callback does: a new one each time."""
        known = {one.conn_id: one for one in self.connections}

        def connection(conn_id: str) -> Connection:
            if conn_id not in known:
                raise ConfigurationError(f"connection {conn_id!r} is not defined in Airflow")
            return known[conn_id]

        return nullcontext(Desk(run, self.ledger, Notifier(connection, retry_after=())))

    def record(self) -> RunRecord:
        """Return the run as the ledger tells it."""
        return self.ledger.record(RUN)

    def expect(self, *targets: str) -> None:
        """Note that `database.health` must produce results for these targets."""
        items = tuple(ev.Expected.Item(routine="database.health", target=t, system=t.split("/")[0]) for t in targets)
        self.ledger.write(ev.Expected(at=AT, run=RUN, items=items))

    def routine(
        self, target: str, *findings: Finding, state: Any = "failed", routine: str = "database.health", **why: str
    ) -> None:
        """Record a try of a routine; `why` is its reason and hint."""
        key = ev.RoutineKey(**RUN.model_dump(), routine=routine, target=target, try_number=1)
        system = target.split("/", maxsplit=1)[0]
        self.ledger.write(
            ev.RoutineOpened(at=AT, routine=key, system=system, role="dba", title="Database health"),
            ev.Observed(at=AT, routine=key, stage="judge", system=system, findings=findings),
            ev.RoutineClosed(at=AT, routine=key, state=state, severity=Severity.OK, **why),
        )


def _smtp(mail: MailServer) -> Connection:
    extra = json.dumps({"from_email": "upkeep@x.example", "disable_ssl": True, "disable_tls": True, "timeout": 2})
    return Connection(conn_id="upkeep_smtp", conn_type="smtp", host="127.0.0.1", port=mail.port, extra=extra)


@pytest.fixture
def site(
    server: PostgresServer,
    mail: MailServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    """A site of two systems with a ledger of its own."""
    name = f"ledger_{abs(hash(request.node.name)) % 10**9}"
    server.create_database(name)
    made = Site(tmp_path, server.dsn(name), mail, monkeypatch)
    yield made
    made.ledger.close()


def finding(severity: Severity = Severity.CRITICAL, subject: str = "public.orders_id_seq") -> Finding:
    return Finding(
        check="sequence", subject=subject, severity=severity, message=f"{subject} is nearly used up",
        observed="97 %", limit="90 %", hint="alter the column to bigint",
    )  # fmt: skip


def failed(task: Any, run_type: str = "scheduled", error: BaseException | None = None, **params: Any) -> dict[str, Any]:
    """Return what Airflow hands to a failure callback."""
    run = SimpleNamespace(dag_id=RUN.dag_id, run_id=RUN.run_id, run_type=run_type)
    ti = SimpleNamespace(log_url="http://airflow.example/log", task_id=task.task_id)
    return {"dag_run": run, "ti": ti, "task": task, "params": params, "exception": error}


def late(rung: int = 1, minutes: float = 60, **changes: Any) -> LateRun:
    """Read what Airflow hands to a deadline callback."""
    run = {"dag_id": RUN.dag_id, "dag_run_id": RUN.run_id, "run_type": "scheduled", "end_date": None, "conf": {}}
    deadline = {"id": "1", "deadline_time": AT + timedelta(minutes=minutes)}
    context = {"dag_run": run | {"state": "running"} | changes, "deadline": deadline}
    return LateRun.of(context, "daily", rung, minutes * 60)


def test_a_critical_finding_reaches_the_owner_of_the_routine_once(site: Site) -> None:
    """The mail says target, what, observed, limit, next step and where to look; a second callback tells nobody."""
    site.routine("shop/db", finding(Severity.WARNING, "other"), finding())
    context = failed(HealthOperator(task_id="health", target={"id": "shop/db"}), error=CriticalFindingError("critical"))
    assert tell_failed(context, site.desk) == "1 told"
    assert tell_failed(context, site.desk) == "1 told before"
    (sent,) = site.mail.mails
    assert (sent["To"], sent["Subject"].split(":")[0]) == ("dba@shop.example", "[CRITICAL] shop/db")
    for words in ("orders_id_seq is nearly used up", "97 %", "90 %", "alter the column to bigint", RUN.run_id, ".html"):
        assert words in sent.get_content()
    (told,) = site.record().escalations
    assert (told.cause, told.rung, told.system) == ("failure", 1, "shop")
    assert [(d.contact, d.address, d.delivered) for d in told.deliveries] == [("DBA", "dba@shop.example", True)]


def test_an_error_is_told_by_its_first_line_without_the_secrets_that_airflow_knows(site: Site) -> None:
    """A routine that could not work is told with message and hint; a masked password does not travel."""
    from airflow.sdk.log import mask_secret

    mask_secret("s3cr3t-of-the-shop")
    task = HealthOperator(task_id="health", target="shop/db")
    error = ConfigurationError("cannot log in with s3cr3t-of-the-shop\nsecond line", "check shop_db")
    tell_failed(failed(task, error=error), site.desk)
    content = site.mail.mails[0].get_content()
    assert "cannot log in with ***" in content and "check shop_db" in content
    assert "second line" not in content and "s3cr3t" not in content + str(site.record().escalations)


@pytest.mark.parametrize(
    ("run_type", "escalate", "count"), [("backfill", True, 0), ("manual", False, 0), ("manual", True, 1)]
)
def test_quiet_runs_tell_nobody(site: Site, run_type: str, escalate: bool, count: int) -> None:
    """Failures of backfills are recorded only; those of manual runs too, unless the run's params ask."""
    task = HealthOperator(task_id="health", target="shop/db")
    tell_failed(failed(task, run_type, escalate=escalate), site.desk)
    assert len(site.mail.mails) == len(site.record().escalations) == count


def test_with_the_ledger_away_people_are_told_once_and_the_spool_knows(
    site: Site, server: PostgresServer, tmp_path: Path
) -> None:
    """An unreachable ledger costs no message and causes none twice."""
    site.ledger = Ledger(lambda: "host=127.0.0.1 port=1 dbname=none", Spool(tmp_path / "away"))
    context = failed(HealthOperator(task_id="health", target="shop/db"))
    assert [tell_failed(context, site.desk) for _ in range(2)] == ["1 told", "1 told before"]
    assert [type(e) for e in Spool(tmp_path / "away").events()] == [ev.Escalated] and len(site.mail.mails) == 1


def test_without_a_channel_the_message_stands_in_the_log_and_the_ledger(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """No SMTP connection: delivered is None, and the whole message is in the log."""
    site.connections = []
    site.routine("shop/db", finding())
    assert tell_failed(failed(HealthOperator(task_id="health", target="shop/db")), site.desk) == "1 unreached"
    assert [d.delivered for d in site.record().escalations[0].deliveries] == [None]
    assert "alter the column to bigint" in caplog.text


def test_who_was_not_reached_is_told_when_it_fails_again(site: Site) -> None:
    """A refused mail does not count as told: the next failure in the same run tries again."""
    site.mail.refuse = {"dba@shop.example"}
    context = failed(HealthOperator(task_id="health", target="shop/db"))
    assert tell_failed(context, site.desk) == "1 unreached"
    site.mail.refuse = set()
    assert tell_failed(context, site.desk) == "1 told"


def test_the_verdict_tells_what_nobody_was_told(site: Site) -> None:
    """A missing result and a bad system file go out with the verdict; what its own task told does not go twice."""
    site.system("broken", more="  web: {kind: nonsense}")
    site.expect("shop/db", "store/db")
    site.routine("shop/db", finding())
    tell_failed(failed(HealthOperator(task_id="health", target="shop/db")), site.desk)
    bad = Finding(
        check="system_file", subject="broken.yaml targets.web", severity=Severity.CRITICAL, message="bad kind"
    )
    site.routine("site/systems", bad, state="success", routine="systems.select")
    assert tell_failed(failed(VerdictOperator(task_id="verdict")), site.desk) == "2 told, 1 told before"
    assert site.mail.recipients() == ["dba@broken.example", "dba@shop.example", "dba@store.example"]
    subjects = [str(sent["Subject"]) for sent in site.mail.mails]
    assert "[CRITICAL] store: 1 result is missing" in subjects


def test_the_verdict_makes_up_for_a_callback_that_was_cut_off(site: Site) -> None:
    """A routine that failed and of which nobody heard is told with the reason and the next step that it recorded."""
    site.expect("shop/db")
    site.routine("shop/db", reason="the disk is full", hint="free 20 GB on /backup")
    assert tell_failed(failed(VerdictOperator(task_id="verdict")), site.desk) == "1 told"
    content = site.mail.mails[0].get_content()
    assert "the disk is full" in content and "What to do: free 20 GB on /backup" in content


def test_a_verdict_without_any_record_is_told_to_everybody(site: Site) -> None:
    """When not even the selection of targets has left a trace, every system hears that the run came to nothing."""
    error = CriticalFindingError("nothing was selected: the run looked at no target at all")
    assert tell_failed(failed(VerdictOperator(task_id="verdict"), error=error), site.desk) == "2 told"
    assert all("looked at no target" in sent.get_content() for sent in site.mail.mails)


def test_a_system_without_readable_contacts_is_recorded_as_told_to_nobody(site: Site) -> None:
    """A file that names nobody cannot hide that nobody was told."""
    (site.folder / "broken.yaml").write_text("name: broken\ncontacts: 7\n")
    bad = Finding(check="system_file", subject="broken.yaml contacts", severity=Severity.CRITICAL, message="bad")
    site.routine("site/systems", bad, state="success", routine="systems.select")
    tell_failed(failed(VerdictOperator(task_id="verdict")), site.desk)
    (told,) = site.record().escalations
    assert told.deliveries == () and "no contact that could be read" in told.message


def test_a_mapped_routine_whose_target_is_unknown_is_left_to_the_verdict(site: Site) -> None:
    """For a killed worker the DAG processor knows only the unmapped task: nobody is told of the wrong target."""
    task = SimpleNamespace(task_id="health", operator_class=HealthOperator)
    assert tell_failed(failed(task), site.desk).startswith("left to the verdict")
    assert site.mail.mails == []


def test_only_systems_that_still_wait_are_told_that_a_run_is_late(site: Site) -> None:
    """The owner of outstanding work is told what it waits for; a system whose results are in sleeps on."""
    site.expect("shop/db", "store/db")
    site.routine("store/db", state="success")
    site.routine("shop/db", state="running")
    assert tell_late(late(), site.desk) == "1 told"
    assert site.mail.recipients() == ["dba@shop.example"]
    content = site.mail.mails[0].get_content()
    assert "database.health on shop/db (running)" in content and "1 h" in content
    assert tell_late(late(), site.desk) == "1 told before"
    assert tell_late(late(2, 90), site.desk) == "1 told"
    assert site.mail.recipients() == ["dba@shop.example", "ops@shop.example"]
    assert len({str(sent["References"]) for sent in site.mail.mails}) == 1


def test_a_run_that_never_began_is_late_for_everybody(site: Site) -> None:
    """A run stuck in the queue has selected nothing: every system is told, or those that its params name."""
    assert tell_late(late(), site.desk) == "2 told"
    assert tell_late(late(conf={"systems": ["store"]}, dag_run_id="other"), site.desk) == "1 told"
    assert site.mail.recipients() == ["dba@shop.example", "dba@store.example", "dba@store.example"]


def test_each_system_is_told_by_its_own_deadline(site: Site) -> None:
    """Another system's earlier deadline does not make this one late."""
    site.system("store", late="3 h")
    assert tell_late(late(), site.desk) == "1 told"
    assert tell_late(late(minutes=180), site.desk) == "1 told, 1 told before"
    assert site.mail.recipients() == ["dba@shop.example", "dba@store.example"]


def test_a_run_that_failed_before_its_deadline_is_not_late(site: Site) -> None:
    """Airflow fires the deadlines of failed runs; what ended in time is quiet, what ended too late is told."""
    ended = AT + timedelta(minutes=59)
    assert tell_late(late(end_date=ended.isoformat(), state="failed"), site.desk).startswith("quiet")
    assert site.mail.mails == []
    assert tell_late(late(end_date=(AT + timedelta(minutes=61)).isoformat()), site.desk) == "2 told"


@pytest.mark.parametrize("context", [{}, {"dag_run": None}, {"dag_run": {"dag_id": "x"}, "deadline": {}}])
def test_callbacks_never_raise(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever Airflow hands over, the callbacks end quietly and say in the log what went wrong."""
    escalation.routine_failed(context)  # type: ignore[arg-type]
    said = asyncio.run(escalation.deadline_missed(context, cadence="daily", rung=1, after_seconds=1, new_in_later=1))
    assert said.startswith("escalation failed")
    assert "escalation of a failure failed" in caplog.text and "escalation of a late run failed" in caplog.text


def test_callbacks_do_not_raise_when_nothing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connections, no ledger, a spool that cannot be written, no system files: still no error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UPKEEP_SPOOL_DIR", str(tmp_path / "file" / "spool"))
    monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path / "nowhere"))
    escalation.routine_failed(failed(HealthOperator(task_id="health", target="shop/db")))  # type: ignore[arg-type]
    run = {"dag_id": "d", "dag_run_id": "r", "run_type": "scheduled"}
    said = asyncio.run(escalation.deadline_missed({"dag_run": run}, cadence="daily", rung=1, after_seconds=1))
    assert isinstance(said, str)


def test_duties_are_what_the_whole_file_says() -> None:
    """Reading contacts and ladder alone gives, for every sample system, what reading the whole file gives."""
    folder = Path(__file__).parents[2] / "include" / "systems"
    systems = load_all(folder, environ=None).systems
    assert systems
    for name, system in systems.items():
        duty = duty_of(name, folder)
        assert (duty.contacts, duty.ladder) == (system.contacts, system.ladder)
