"""Whoever owns the work hears that a person is asked: once a request, by real mail, and it stands on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from tests.integration.mail_server import MailServer
from tests.unit.lifecycle_bench import no_ledger
from upkeep import escalation
from upkeep.adapters.notify import Notifier
from upkeep.core import ladder
from upkeep.core.cadence import RunType, Window
from upkeep.core.model import Action, Severity
from upkeep.core.system import Contact, Ladder, Role
from upkeep.escalation.approval import tell_opened
from upkeep.escalation.desk import Desk
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.ledger.verdict import judge_run
from upkeep.operators.run import Run
from upkeep.report import Extras, build

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
RUN = ev.RunKey(dag_id="maintenance_weekly", run_id="scheduled__2026-11-21T06:00:00+00:00")
REINDEX = ev.RoutineKey(**RUN.model_dump(), routine="database.reindex", target="shop/db", try_number=1)
SYSTEM = """
name: shop
title: A shop
timezone: Europe/Berlin
contacts:
  ops: {primary: {name: Operations, channels: [{kind: email, address: ops@shop.example}]}}
  dba:
    primary: {name: DBA, channels: [{kind: email, address: dba@shop.example}]}
    secondary: {name: Deputy, channels: [{kind: email, address: deputy@shop.example}]}
ladder:
  deadlines: {weekly: 1 h}
  rungs: [{after: 0 s, roles: [ops]}]
targets:
  db: {kind: postgres, conn_id: shop_db}
"""
BIG, HUGE = (
    Action(
        name="rebuild",
        subject=f"public.{name}",
        reason="61 % of it is empty",
        approval="it is larger than 10 GB, and writes are slower for about 20 min",
        undo="none",
    )
    for name in ("big", "huge")
)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server."""
    with MailServer() as running:
        yield running


class Site:
    """A system, a ledger and a desk of one test."""

    def __init__(self, folder: Path, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "systems").mkdir()
        self.file = folder / "systems" / "shop.yaml"
        self.file.write_text(SYSTEM)
        monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(folder / "systems"))
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
        self.ledger = Ledger(no_ledger, Spool(folder / "spool"))
        opened = ev.RoutineOpened(at=NOW, routine=REINDEX, system="shop", role="dba", title="Index rebuilds")
        closed = ev.RoutineClosed(at=NOW, routine=REINDEX, state="success", severity=Severity.OK)
        self.ledger.write(opened, closed)
        extra = json.dumps({"from_email": "upkeep@shop.example", "disable_ssl": True, "disable_tls": True})
        self._smtp = Connection(conn_id="upkeep_smtp", conn_type="smtp", host="127.0.0.1", port=mail.port, extra=extra)

    def tell(
        self, *actions: Action, kind: RunType = RunType.SCHEDULED, request: str = "1a2b3c4d", **params: Any
    ) -> str:
        """Tell as the task that opens a request does."""
        asked = ev.ApprovalAsked(
            at=NOW,
            run=RUN,
            request=ev.RunKey(dag_id="approved_changes", run_id=f"shop.db__database.reindex__2026-11-21__{request}"),
            routine="database.reindex",
            target="shop/db",
            system="shop",
            actions=actions,
        )
        run = Run(key=RUN, type=kind, window=Window(start=NOW, end=NOW), params=params, try_number=1, last_try=False)
        return tell_opened(asked, run, NOW + timedelta(days=6), lambda key: nullcontext(self._desk(key)))

    def _desk(self, run: ev.RunKey) -> Desk:
        return Desk(run, self.ledger, Notifier(lambda _: self._smtp, retry_after=()))

    @property
    def record(self) -> RunRecord:
        """The run as the ledger tells it."""
        return self.ledger.record(RUN)


@pytest.fixture
def site(tmp_path: Path, mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Start afresh."""
    return Site(tmp_path, mail, monkeypatch)


def test_the_owner_of_the_work_gets_one_mail(site: Site, mail: MailServer):
    """What is asked, why a person, until when, what silence means, and the way to the answer; once a request."""
    assert site.tell(BIG, HUGE) == "1 told"
    [sent] = mail.mails
    assert sent["To"] == "dba@shop.example"
    assert sent["Subject"] == "[APPROVAL] shop/db: 2 changes by Index rebuilds wait for an answer"
    text = sent.get_content()
    for said in (
        "rebuild public.big: 61 % of it is empty", "rebuild public.huge", "larger than 10 GB", "Undo: none",
        "Answer until: 2026-11-27 07:00 CET; no answer counts as a rejection", "role dba of shop owns this work",
        "https://airflow.example/dags/approved_changes/runs/shop.db__database.reindex__2026-11-21__1a2b3c4d"
        "/tasks/ask/required_actions",
    ):  # fmt: skip
        assert said in text, said
    assert text.count("larger than 10 GB") == 1
    assert site.tell(BIG, HUGE) == "1 told before" and len(mail.mails) == 1


def test_it_is_on_record_and_in_the_report(site: Site):
    """As an escalation with the cause `approval`, with what proves the delivery."""
    site.tell(BIG)
    [told] = site.record.escalations
    assert (told.cause, told.subject, told.system) == ("approval", "shop/db database.reindex 1a2b3c4d", "shop")
    assert [(d.contact, d.delivered) for d in told.deliveries] == [("DBA", True)]
    report = build(site.record, judge_run(site.record), Extras(now=NOW))
    assert "[APPROVAL] shop/db: 1 change by Index rebuilds waits for an answer" in report.html
    assert "approval, <span" in report.html and "approval, rung" not in report.html


def test_another_request_of_the_same_run_is_told_too(site: Site, mail: MailServer):
    """A repeated task that proposes something else asks something else."""
    site.tell(BIG)
    site.tell(HUGE, request="5e6f7a8b")
    assert len(mail.mails) == 2 and mail.mails[0]["References"] != mail.mails[1]["References"]


@pytest.mark.parametrize(
    ("kind", "params", "told"),
    [
        (RunType.MANUAL, {}, 0),
        (RunType.MANUAL, {"escalate": True}, 1),
        (RunType.BACKFILL, {"escalate": True}, 0),
        (RunType.SCHEDULED, {}, 1),
    ],
)
def test_who_starts_a_run_by_hand_is_watching(
    site: Site, mail: MailServer, kind: RunType, params: dict[str, Any], told: int
):
    """The rules of the ladder hold: a manual run is quiet unless it is told to escalate, a backfill always."""
    said = site.tell(BIG, kind=kind, **params)
    assert len(mail.mails) == len(site.record.escalations) == told and said.startswith("quiet: ") is not bool(told)


def test_a_deputy_stands_in_and_nobody_reached_needs_a_look(site: Site, mail: MailServer):
    """Who cannot be reached is replaced; when nobody can, the run's report warns, and the next try tells again."""
    mail.refuse.add("dba@shop.example")
    assert site.tell(BIG) == "1 told" and mail.recipients() == ["deputy@shop.example"]
    mail.refuse.add("deputy@shop.example")
    assert site.tell(HUGE, request="5e6f7a8b") == "1 unreached"
    report = build(site.record, judge_run(site.record), Extras(now=NOW))
    assert "DBA was not reached by email" in report.html and "nobody else was reached</p>" in report.html
    mail.refuse.clear()
    assert site.tell(HUGE, request="5e6f7a8b") == "1 told"


def test_many_changes_stay_a_mail_that_can_be_read(site: Site, mail: MailServer):
    """Some are named, the rest is counted; nothing of it is cut in the middle."""
    many = [BIG.model_copy(update={"subject": f"public.{'x' * 200}{n}"}) for n in range(60)]
    site.tell(*many)
    text = mail.mails[0].get_content()
    assert "and 54 more" in text and len(text) < 4000


def test_a_broken_system_file_does_not_keep_it_from_people(site: Site, mail: MailServer):
    """A wrong target hides neither contacts nor the moment, which is then in UTC."""
    site.file.write_text(SYSTEM.replace("conn_id: shop_db", "conn_di: shop_db"))
    assert site.tell(BIG) == "1 told" and "2026-11-27 06:00 UTC" in mail.mails[0].get_content()


def test_a_failure_to_tell_fails_nothing(site: Site, caplog: pytest.LogCaptureFixture):
    """The task that opens the request goes on, and its log says what happened."""
    broken: Any = None
    escalation.request_opened(broken, run=broken, answer_by=NOW)
    assert "escalation of a request failed" in caplog.text


def test_the_rungs_of_the_ladder_do_not_decide_who_is_asked():
    """They are for trouble. A role that is not there is replaced by the first, and the message says so."""
    role = Role(primary=Contact(name="Ops", channels=[{"kind": "email", "address": "ops@shop.example"}]))  # type: ignore[list-item]
    duty = ladder.Duty(system="shop", contacts={"ops": role}, ladder=Ladder())
    call = ladder.whom_to_ask(duty, "dba")
    assert [person.name for person in call.people] == ["Ops"]
    assert call.notes == ("shop has no role 'dba'", "role ops is told in place of the role that owns the work")
