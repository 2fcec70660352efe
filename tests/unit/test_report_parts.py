"""Numbers, lines and the maintenance log of a report."""

from __future__ import annotations

import doctest
import html
import importlib
import math
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.unit import report_samples as samples
from upkeep.core.model import Severity
from upkeep.report import human
from upkeep.report.markdown import escape
from upkeep.report.sparkline import sparkline

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE, max_size=80))
def test_a_sparkline_stays_in_its_box(values: list[float]):
    """Whatever was measured, the line is inside the drawing; few or equal values give none."""
    drawn = str(sparkline(values))
    kept = values[-30:]
    assert bool(drawn) == (len(kept) >= 3 and min(kept) != max(kept))
    for x, y in re.findall(r"([\d.e+-]+),([\d.e+-]+)", drawn.partition("points=")[2].partition("/>")[0]):
        assert 0 <= float(x) <= 64 and 0 <= float(y) <= 16


def test_a_sparkline_has_words():
    """A reader who cannot see it hears lowest, highest and present value; what is in them is escaped."""
    drawn = str(sparkline([1, 5, 3], lambda value: f"<{value}>"))
    assert 'role="img" aria-label="last 3 values: &lt;1&gt; to &lt;5&gt;, now &lt;3&gt;"' in drawn


@given(FINITE, st.sampled_from(["1", "%", "bytes", "bytes/s", "s", "ms", "state", "count", "", "sessions", "<b>"]))
def test_every_number_can_be_shown(value: float, unit: str):
    """No measurement of any unit breaks a report."""
    assert human.measured(value, unit).text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 ms"), (59.96, "1 min"), (3599.7, "1 h"), (86399.9, "1 d"), (90061, "1 d 1 h")]
)
def test_durations_round_into_the_next_unit(seconds: float, text: str):
    """There is no `60 s` and no `24 h 00 min`."""
    assert human.duration(seconds).text == text


@given(st.text())
def test_cleaned_text_can_be_written(text: str):
    """What is cleaned is valid UTF-8, has no controls but line breaks and tabs, and does not change again."""
    cleaned = human.clean(text)
    cleaned.encode("utf-8")
    assert not [c for c in cleaned if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160]
    assert human.clean(cleaned) == cleaned


@given(st.text(alphabet="ab_*[]()<>&`|~#\\!:/w. \n-+1", max_size=60))
def test_escaped_text_makes_no_markup(text: str):
    """Nothing from outside opens emphasis, code, a link, a table cell or an element in the log."""
    escaped = escape(text)
    assert "\n" not in escaped and "<" not in escaped and "://" not in escaped
    shown = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"- {escaped}x")
    assert shown == f"<ul>\n<li>{html.escape(human.one_line(text), quote=False).replace('"', '&quot;')}x</li>\n</ul>\n"


def test_the_log_has_the_shape_of_the_guides():
    """The sections of the template, in its order, each with its fields."""
    log = samples.troubled().markdown
    assert re.findall(r"^#+ (.*)$", log, re.M) == [
        "Maintenance Log", "Basic Information", "Tasks Performed", "Issues Encountered", "System Status",
        "Next Steps", "Sign-off",
    ]  # fmt: skip
    for field in ("Date: 2026-11-21", "Time: 06:00 UTC", "Type: Routine", "Status: partial", "Reviewer: "):
        assert f"- {field}" in log
    assert "Maintainer: Airflow, maintenance_daily, run scheduled__2026-11-21T06:00:00+00:00" in log


def test_the_log_tells_what_was_done_and_what_failed():
    """A task is completed when its work was done, whatever it found; a missing one has failed."""
    log = samples.troubled().markdown
    status = dict(re.findall(r"^\d+\. (.+)\n   - Status: (\w+)", log, re.M))
    assert status["Database health: claims/db"] == "Completed"
    assert status["Database health: student/db"] == "Failed"
    assert status["Backup: molecular/db"] == "Failed"
    assert status["Backup: student/db"] == "Skipped"
    assert status["Backup: claims/db"] == "Completed"


def test_the_log_leaves_unknown_what_was_not_measured():
    """No number is made up for the template's sake, and nobody signs for people."""
    log = samples.troubled().markdown
    assert "- CPU Usage: unknown (not measured in this run)" in log
    assert "- Error Rate: 10 % (highest of 15: campus/api predict)" in log
    assert log.rstrip("\n").endswith("- Maintainer: \n- Reviewer: \n- Date:") or log.endswith("- Date: \n")


def test_the_log_asks_for_follow_up():
    """Every issue says whether somebody has to come back to it; next steps are the hints, once each."""
    log = samples.troubled().markdown
    issues = log.split("## Issues Encountered")[1].split("## System Status")[0]
    assert issues.count("Follow-up: Required") == 7 and issues.count("Follow-up: Not Required") == 1
    steps = log.split("## Next Steps\n")[1].split("## Sign-off")[0].strip().splitlines()
    assert len(steps) == len(set(steps)) and any("bigint" in step for step in steps)


def test_a_quiet_log_says_none():
    """An empty section would look like a forgotten one."""
    log = samples.report_of(samples.quiet_events(dry_run=True)).markdown
    assert "## Issues Encountered\n- None" in log and "## Next Steps\n- None" in log
    assert "- Dry run: nothing was changed" in log and "- Status: completed" in log


def test_hostile_text_makes_no_structure_in_the_log():
    """Neither headings nor list items nor links come from outside."""
    log = samples.hostile().markdown
    assert len(re.findall(r"^#", log, re.M)) == 7
    assert "<script" not in log and "http://" not in log and "](" not in log.replace("\\](", "")


def test_an_escalation_without_any_delivery_is_shown():
    """A message that only stands in the report is said to stand only there."""
    told = samples.ev.Escalated(
        at=samples.START, run=samples.RUN, cause="deadline", subject="claims", system="claims", rung=1, message="late"
    )
    html = samples.report_of([*samples.quiet_events(), told], samples.troubled_extras()).html
    assert "stands in this report only" in html


def test_a_percentage_short_of_all_is_not_all():
    """99.996 % of something is not 100 %."""
    assert human.percent(99.9999).text != "100 %"
    assert math.isclose(float(human.percent(99.9999).text.split()[0]), 99.99)


def test_since_when_needs_the_ledger():
    """Without it nobody knows whether a finding is new."""
    found = samples.finding("check", "part", Severity.WARNING, "something")
    events = [
        samples.opened(),
        samples.expected(("database.health", "claims/db")),
        *samples.health("claims", findings=(found,)),
    ]
    away = samples.Extras(now=samples.START + timedelta(seconds=9), ledger_away="gone")
    assert "new in this run" in samples.report_of(events).html
    assert "new in this run" not in samples.report_of(events, away).html


@pytest.mark.parametrize("module", ["human", "markdown"])
def test_examples_in_docstrings_hold(module: str):
    """What a docstring shows is what happens."""
    tried = doctest.testmod(importlib.import_module(f"upkeep.report.{module}"))
    assert tried.attempted and not tried.failed
