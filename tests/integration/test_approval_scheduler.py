"""Heavy work in a real Airflow: it waits for its maintenance window, and for a person where one must agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from tests.integration.approval_site import APPROVALS, QUICK, WEEKLY, Site, done, opening, running_site, until


@dataclass
class Story:
    """What was started before the first test: runs take their time, and they take it side by side."""

    site: Site
    first: str
    """The scheduled run of the cadence: over the systems whole, refused, gone and far, which were there alone."""
    later: str
    """A run over a system whose window opens only at `opens`."""
    opens: datetime
    by_hand: str
    empty: str
    marked: str


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with running_site() as site:
        day = f"{datetime.now(UTC) + timedelta(days=4):%a}".lower()
        site.system("far", "a.old", window=f'{{days: [{day}], start: "01:00", end: "02:00"}}')
        site.system("whole", "small.old", "big.old")
        site.system("refused", "big.old")
        site.system("gone", "big.old", "bigger.old", "biggest.old")
        began = time.monotonic()
        site.airflow.unpause(WEEKLY)
        until(lambda: site.airflow.runs(WEEKLY))
        first = site.airflow.runs(WEEKLY)[0]["dag_run_id"]
        until(lambda: site.state(first, "select") == "success")
        site.system("byhand", "small.old", "big.old")
        site.system("clean", "small.old")
        site.system("marked", "big.old")
        # Late enough to see the work wait, also where everything takes its time.
        opens, window = opening(timedelta(seconds=20 + 3 * (time.monotonic() - began)))
        site.system("later", "a.old", window=window)
        site.airflow.unpause(QUICK)

        def by_hand(dag_id: str, system: str, **more: Any) -> str:
            return site.airflow.trigger(dag_id, {"target": f"{system}/files", "routine": "folders.tidy", **more})

        yield Story(
            site,
            later=site.airflow.trigger(WEEKLY, {"systems": ["later"]}),
            opens=opens,
            first=first,
            by_hand=by_hand(QUICK, "byhand", escalate=True),
            empty=by_hand(APPROVALS, "clean"),
            marked=by_hand(APPROVALS, "marked"),
        )


@dataclass
class Asked:
    """What was asked and how it was answered, except about the system whole, whose answer comes last."""

    requests: dict[str, str]
    questions: dict[str, dict[str, Any]]
    again: str
    """A run by hand over whole and far, outside of the maintenance window."""


@pytest.fixture(scope="module")
def asked(story: Story) -> Asked:
    """Let the first run ask, answer, and run again over what is being asked: all of it at the same time."""
    site = story.site
    for name in ("whole", "refused", "gone"):
        until(lambda name=name: site.requests(name))
    requests = {name: site.requests(name)[0] for name in ("whole", "refused", "gone")}
    questions = {name: site.question(requests[name]) for name in requests}
    (site.folder / "targets" / "whole" / "big2.old").touch()
    again = site.airflow.trigger(WEEKLY, {"systems": ["whole", "far"], "outside_window": True})
    site.answer(requests["refused"], "Reject")
    (site.folder / "targets" / "gone" / "big.old").unlink()
    site.answer(requests["gone"], "Approve", only=questions["gone"]["params"]["only"]["schema"]["examples"][:2])
    site.question(story.marked)
    path = f"dags/{APPROVALS}/dagRuns/{story.marked}/taskInstances/ask"
    site.airflow.request("PATCH", path, {"new_state": "success"})
    return Asked(requests, questions, again)


def test_it_waits_for_its_window_without_a_worker(story: Story):
    """Deferred until the window opens, and the ledger says so."""
    site = story.site
    until(lambda: site.row(story.later).get("state") == "waiting", 40)
    until(lambda: site.state(story.later, "tidy") == "deferred", 40)
    assert datetime.now(UTC) < story.opens, "too late to see it wait"
    waiting = site.row(story.later)
    assert (
        waiting["reason"] == f"waits for the maintenance window of later, which opens {story.opens:%Y-%m-%d %H:%M} UTC"
    )
    assert waiting["opens_at"] == story.opens and done(site.folder / "targets" / "later") == []


def test_a_window_that_is_too_far_away_is_not_waited_for(story: Story):
    """The run ends without the work, green, with a note that says why and what to do."""
    site, folder = story.site, story.site.folder / "targets" / "far"
    assert site.airflow.wait(WEEKLY, story.first, 120) == "success"
    assert done(folder) == [] and site.verdict(story.first)[0] == "info"
    [row] = site.ask("select * from upkeep.routine_run where run_id = %s and target = 'far/files'", story.first)
    assert row["state"] == "skipped" and "this run waits at most 24 h for it" in row["reason"]
    [finding] = site.ask("select * from upkeep.finding where routine_run_id = %s", row["id"])
    assert (finding["check_name"], finding["severity"]) == ("maintenance_window", "info")
    assert "outside_window" in finding["hint"]


def test_what_stands_in_a_request_is_not_asked_again(story: Story, asked: Asked):
    """What is new is asked by itself. An engineer works outside the window."""
    site, question = story.site, asked.questions["whole"]
    assert question["subject"] == "whole/files: 1 change by Tidying up"
    for said in ("delete file", "big.old", "3.2 GB", "copy big.old back", story.first):
        assert said in question["body"]
    assert site.airflow.wait(WEEKLY, asked.again, 120) == "success"
    assert [entry[1:] for entry in done(site.folder / "targets" / "far")] == [[asked.again, "a.old", "None"]]
    until(lambda: len(site.requests("whole")) == 2)
    [new] = set(site.requests("whole")) - {asked.requests["whole"]}
    assert [action["subject"] for action in site.approval(new)["actions"]] == ["big2.old"]


def test_the_owner_is_told_that_a_person_is_asked(story: Story, asked: Asked):
    """One mail a request, with the way to it; runs by hand stay quiet, unless they are to escalate."""
    site = story.site
    assert site.airflow.wait(WEEKLY, story.first, 120) == "success"
    until(lambda: len(site.mail.mails) == 4)
    mails = {str(mail["Subject"]): mail.get_content() for mail in site.mail.mails}
    text = mails["[APPROVAL] whole/files: 1 change by Tidying up waits for an answer"]
    path = f"/dags/{APPROVALS}/runs/{asked.requests['whole']}/tasks/ask/required_actions"
    for said in (f"{site.airflow.url}{path}", "delete file big.old: 61 % of it", "readers *wait* for about 20 min"):
        assert said in text
    by_hand = mails["[APPROVAL] byhand/files: 1 change by Tidying up waits for an answer"]
    assert f"/dags/{QUICK}/runs/{story.by_hand}/tasks/ask" in unquote(by_hand)
    rows = site.ask("select cause, system, run_id from upkeep.escalation order by system")
    assert [(r["cause"], r["system"], r["run_id"]) for r in rows] == [
        ("approval", "byhand", story.by_hand),
        *(("approval", name, story.first) for name in ("gone", "refused", "whole")),
    ]
    [report] = site.ask("select html from upkeep.report where run_id = %s", story.first)
    assert "ann@example.org" in report["html"]


def test_what_is_approved_is_done_exactly_once(story: Story, asked: Asked):
    """After the answer just what was approved is done, and it is on record who agreed."""
    site, folder, request = story.site, story.site.folder / "targets" / "whole", asked.requests["whole"]
    assert [entry[2] for entry in done(folder)] == ["small.old"]
    site.answer(request, "Approve")
    assert site.airflow.wait(APPROVALS, request, 120) == "success"
    assert [entry[1:3] for entry in done(folder)[1:]] == [[request, "big.old"]]
    assert (folder / "big2.old").exists()
    kept = site.approval(request)
    assert (kept["decision"], kept["routine"], kept["target"]) == ("approved", "folders.tidy", "whole/files")
    assert kept["decided_by"] and kept["asked_by_run"] == story.first and kept["asked_at"] < kept["decided_at"]
    assert [action["subject"] for action in kept["actions"]] == ["big.old"]
    [report] = site.ask("select html, markdown from upkeep.report where run_id = %s", request)
    assert f"by {kept['decided_by']}" in report["html"] and "- approved: 1 change by" in report["markdown"]
    assert len(site.requests("whole")) == 2


def test_what_is_rejected_is_not_done(story: Story, asked: Asked):
    """The answer is on record and the run is green."""
    site, folder, request = story.site, story.site.folder / "targets" / "refused", asked.requests["refused"]
    assert site.airflow.wait(APPROVALS, request, 120) == "success"
    assert done(folder) == [] and (folder / "big.old").exists()
    assert site.row(request, "do")["state"] == "skipped" and "rejected by" in site.row(request, "do")["reason"]
    assert site.verdict(request) == ("ok", []) and site.approval(request)["decision"] == "rejected"


def test_what_is_no_longer_needed_is_recorded_and_not_done(story: Story, asked: Asked):
    """Between question and answer somebody has done it by hand: the plan is made anew. What was not chosen stays."""
    site, folder, request = story.site, story.site.folder / "targets" / "gone", asked.requests["gone"]
    choices = asked.questions["gone"]["params"]["only"]["schema"]["examples"]
    assert choices == ["delete_file big.old", "delete_file bigger.old", "delete_file biggest.old"]
    assert site.airflow.wait(APPROVALS, request, 120) == "success"
    assert [entry[2] for entry in done(folder)] == ["bigger.old"] and (folder / "biggest.old").exists()
    rows = site.ask(
        "select subject, status, detail from upkeep.action where routine_run_id = %s order by subject",
        site.row(request, "do")["id"],
    )
    assert [(row["subject"], row["status"]) for row in rows] == [("big.old", "skipped"), ("bigger.old", "done")]
    assert "no longer needed" in rows[0]["detail"]


def test_by_hand_it_plans_and_asks_and_no_answer_is_a_rejection(story: Story):
    """Nothing is done before the question, and nothing after it when nobody answers in time."""
    site, folder = story.site, story.site.folder / "targets" / "byhand"
    assert site.airflow.wait(QUICK, story.by_hand, 120) == "success"
    assert done(folder) == [] and (folder / "big.old").exists()
    kept = site.approval(story.by_hand)
    assert (kept["decision"], kept["decided_by"]) == ("expired", "")
    assert [action["subject"] for action in kept["actions"]] == ["big.old"]
    assert "nobody answered" in site.row(story.by_hand, "do")["reason"]


def test_with_nothing_to_ask_it_ends(story: Story):
    """A person is not asked to agree to nothing."""
    site = story.site
    assert site.airflow.wait(APPROVALS, story.empty, 120) == "success"
    assert site.state(story.empty, "ask", APPROVALS) == "skipped"
    assert done(site.folder / "targets" / "clean") == []


@pytest.mark.usefixtures("asked")
def test_a_question_that_is_marked_as_done_approves_nothing(story: Story):
    """Marking the task as successful is not an answer: the work refuses to begin, and the run is red."""
    site, folder = story.site, story.site.folder / "targets" / "marked"
    assert site.airflow.wait(APPROVALS, story.marked, 120) == "failed"
    assert done(folder) == [] and site.state(story.marked, "do", APPROVALS) == "failed"
    assert "nobody has approved this" in site.verdict(story.marked)[1][0]


def test_it_works_in_its_window(story: Story):
    """The same try goes on when the window has opened, and knows when it closes."""
    site, opens = story.site, story.opens
    assert site.airflow.wait(WEEKLY, story.later, 120) == "success"
    [[at, _, name, closes]] = done(site.folder / "targets" / "later")
    assert name == "a.old" and opens.timestamp() <= float(at) < opens.timestamp() + 30
    assert datetime.fromisoformat(closes) == opens + timedelta(minutes=20)
    row = site.row(story.later)
    assert (row["state"], row["try_number"], row["reason"], row["opens_at"]) == ("success", 1, "", None)
    assert len(site.ask("select 1 from upkeep.routine_run where run_id = %s and task = 'tidy'", story.later)) == 1
    assert site.verdict(story.later) == ("ok", [])
