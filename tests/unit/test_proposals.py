"""What a run has proposed becomes requests, what is asked reads well, and both stand in the report."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.unit import report_samples as samples
from tests.unit.lifecycle_bench import no_ledger
from upkeep.core.model import Action, Severity
from upkeep.core.system import MaintenanceWindow
from upkeep.ledger import events as ev
from upkeep.ledger.record import fold
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.ledger.verdict import judge_run
from upkeep.operators import wiring
from upkeep.operators.proposals import APPROVALS, ProposalsOperator
from upkeep.report import Extras, build, human
from upkeep.report.markdown import code
from upkeep.report.question import Question

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
RUN = samples.RUN
BIG, HUGE = (
    Action(name="rebuild", subject=f"public.{name}", reason="61 % bloat", approval="over 10 GB", undo="none")
    for name in ("big", "huge")
)


def events(*actions: Action, **opened: Any) -> list[Any]:
    """Everything that a run says whose reindex proposes these."""
    key = samples.key("database.reindex", "claims/db")
    return [
        samples.opened(),
        samples.expected(("database.reindex", "claims/db")),
        ev.RoutineOpened(at=NOW, routine=key, system="claims", role="dba", title="Reindex", **opened),
        *(ev.ActionOpened(at=NOW, routine=key, number=n, action=a, proposed=True) for n, a in enumerate(actions, 1)),
        ev.RoutineClosed(at=NOW, routine=key, state="success", severity=Severity.OK),
    ]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger that is away: its events wait in the spool."""
    made = Ledger(no_ledger, Spool(tmp_path))
    monkeypatch.setattr(wiring, "open_ledger", lambda: nullcontext(made))
    return made


def propose(run_type: str = "scheduled", ti: Any = None, **params: Any) -> list[dict[str, Any]]:
    """Gather the proposals of the run as its task does."""
    dag_run = SimpleNamespace(
        dag_id=RUN.dag_id, run_id=RUN.run_id, run_type=run_type, data_interval_start=None, data_interval_end=None
    )
    task_instance = SimpleNamespace(try_number=1, max_tries=0, **(ti or {}))
    context: Any = {"dag_run": dag_run, "dag": SimpleNamespace(), "ti": task_instance, "params": params}
    return ProposalsOperator(task_id="propose").execute(context)


def test_one_request_for_a_target_and_a_routine(ledger: Ledger):
    """It carries what the question needs, and the settings under which the plan can be compared."""
    ledger.write(*events(BIG, HUGE, settings={"limit": 3}))
    [request] = propose()
    assert request["run_id"].startswith("claims.db__database.reindex__2026-11-21__")
    assert request["conf"]["target"] == "claims/db" and request["conf"]["systems"] == ["claims"]
    assert request["conf"]["settings"] == {"database.reindex": {"limit": 3}}
    assert [Action.model_validate(one) for one in request["conf"]["actions"]] == [BIG, HUGE]
    [asked] = ledger.record(RUN).asked
    assert (asked.request.dag_id, asked.request.run_id) == (APPROVALS, request["run_id"])


def test_the_same_proposals_of_a_run_are_the_same_request(ledger: Ledger):
    """A task that is repeated starts nothing twice; other proposals are another request."""
    ledger.write(*events(BIG, HUGE))
    first, second = propose(), propose()
    assert first == second and len(ledger.record(RUN).asked) == 1
    ledger.write(*events(BIG))
    assert propose()[0]["run_id"] != first[0]["run_id"]


@pytest.mark.parametrize(("run_type", "params"), [("backfill", {}), ("manual", {"dry_run": True})])
def test_nobody_is_asked_about_the_past_or_about_a_rehearsal(ledger: Ledger, run_type: str, params: dict[str, Any]):
    """Backfills and dry runs."""
    ledger.write(*events(BIG))
    assert propose(run_type, **params) == [] and ledger.record(RUN).asked == ()


@pytest.mark.parametrize(("running", "left"), [(1, ["public.huge"]), (0, ["public.big", "public.huge"])])
def test_what_stands_in_an_open_request_is_left_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, running: int, left: list[str]
):
    """As long as Airflow has its run: one that was deleted asks nobody any more."""
    known = {"dag_id": APPROVALS, "run_id": "x", "actions": [BIG.model_dump()]}
    monkeypatch.setattr(ledger, "ask", lambda name, **_: [known] if name == "open_approvals" else None)
    ledger.write(*events(BIG, HUGE))
    [request] = propose(ti={"get_dr_count": lambda **_: running})
    assert [action["subject"] for action in request["conf"]["actions"]] == left


def test_a_failure_to_ask_makes_the_run_critical(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Otherwise nobody would hear that nobody is asked."""
    known = {"dag_id": APPROVALS, "run_id": "x", "actions": []}
    monkeypatch.setattr(ledger, "ask", lambda name, **_: [known] if name == "open_approvals" else None)
    ledger.write(*events(BIG))

    def broken(**_: Any) -> int:
        raise RuntimeError("the API server is away")

    with pytest.raises(RuntimeError):
        propose(ti={"get_dr_count": broken})
    [reason] = judge_run(ledger.record(RUN)).reasons
    assert reason == "site/approvals: approvals.propose failed: RuntimeError: the API server is away"


def question(*actions: Action, windowed: bool = True) -> Question:
    """Ask about these on a system whose window opens at 22:00 in Berlin."""
    system: Any = SimpleNamespace(
        name="claims",
        title="Claims",
        zone=ZoneInfo("Europe/Berlin"),
        maintenance_window=MaintenanceWindow(start=time(22), end=time(4)),
    )
    routine: Any = SimpleNamespace(title="Reindex", windowed=windowed)
    return Question(
        system=system,
        target="claims/db",
        routine=routine,
        actions=actions,
        proposed_by="maintenance_monthly scheduled__2026",
        answer_by=NOW + timedelta(days=6),
        now=NOW,
        longest=timedelta(days=7),
    )


def test_the_question_names_every_change_and_what_either_answer_leads_to():
    """Reason, why a person, undo, size and statement of each; when it would be done; what silence means."""
    big = BIG.model_copy(update={"details": {"size_bytes": 3_400_000_000, "statement": "REINDEX INDEX x"}})
    asked = question(big, HUGE)
    assert asked.subject == "claims/db: 2 changes by Reindex"
    for said in (
        "which opens 2026-11-21 22:00 CET", "No answer by 2026-11-27 07:00 CET", "**Size**: 3.2 GB", "**Undo**: none",
        "`REINDEX INDEX x`", "**1. rebuild** `public.big`", "**2. rebuild** `public.huge`", "over 10 GB",
        "Proposed by `maintenance_monthly scheduled__2026`",
    ):  # fmt: skip
        assert said in asked.body, said
    assert ", at once" in question(big, windowed=False).body


def test_a_change_of_a_file_is_shown_line_by_line():
    """Who agrees sees the very lines; a fence in them does not end the block."""
    diff = "--- a/requirements.txt\n+++ b/requirements.txt\n-Django==3.2.0\n+Django==3.2.20\n ```<b>\n"
    body = question(BIG.model_copy(update={"details": {"diff": diff, "oid": "17"}})).body
    [fence] = [t for t in MarkdownIt("commonmark").parse(body) if t.type == "fence"]
    assert (fence.info, fence.content) == ("diff", diff)
    assert "oid" not in body.lower()


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_name_can_change_the_question(subject: str, reason: str):
    """Names and reasons come from databases: they bring no markup, no link and no line of their own into it."""
    harmless = question(BIG).body
    body = question(BIG.model_copy(update={"subject": subject, "reason": reason})).body
    assert len(body.splitlines()) == len(harmless.splitlines())
    kinds = [token.type for token in MarkdownIt("commonmark", {"html": True}).parse(body)]
    assert kinds == [token.type for token in MarkdownIt("commonmark", {"html": True}).parse(harmless)]


@given(st.text(min_size=1, max_size=40))
def test_a_code_span_shows_what_it_was_given(text: str):
    """Whatever backticks a name holds, the span ends where the name ends."""
    [block] = [t for t in MarkdownIt("commonmark").parse(f"a {code(text)} b") if t.type == "inline"]
    spans = [child.content for child in block.children or [] if child.type == "code_inline"]
    assert spans == [human.one_line(text) or "(no name)"]


def test_the_report_shows_what_was_asked_and_answered():
    """The run that proposed, and the run of the request; an answer that never came needs somebody's look."""
    request = ev.RunKey(dag_id=APPROVALS, run_id="claims.db__x")
    where = {"routine": "database.reindex", "target": "claims/db", "system": "claims"}
    asked = ev.ApprovalAsked(at=NOW, run=RUN, request=request, actions=(BIG,), **where)
    record = fold(RUN, [*events(BIG, HUGE), asked])
    report = build(record, judge_run(record), Extras(now=NOW))
    assert "All well: 2 changes wait for approval" in report.html
    for said in ("run claims.db__x, under Required Actions", "rebuild public.big", "an earlier request is still open"):
        assert said in report.html, said
    assert "## Approvals" in report.markdown and "needs approval, not done" in report.markdown

    for decision, by, said in (("approved", "Ann", "by Ann"), ("expired", "", "nobody answered")):
        decided: Any = ev.ApprovalDecided(at=NOW, run=RUN, decision=decision, by=by, by_id="7", actions=(BIG,), **where)
        record = fold(RUN, [*events(), decided])
        report = build(record, judge_run(record), Extras(now=NOW))
        assert said in report.html and said in report.markdown
        assert ("nobody has answered whether" in report.html) is (decision == "expired")
