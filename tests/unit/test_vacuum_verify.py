"""What is said of a vacuum that left dead rows where they were."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.unit.test_vacuum_need import TABLE
from upkeep.core.job import Failed
from upkeep.core.model import Outcome, OutcomeStatus
from upkeep.routines.database._vacuum_lane import Done
from upkeep.routines.database._vacuum_outcome import outcome, together
from upkeep.routines.database._vacuum_settings import VacuumSettings
from upkeep.routines.database._vacuum_verify import _unremovable
from upkeep.routines.database._vacuum_work import Work


def test_what_our_own_analyze_left_in_the_catalogue_is_no_trouble() -> None:
    """While one lane analyzes, another cannot remove the statistics it replaces: no finding on a healthy server."""
    tables = {1: TABLE, 2: replace(TABLE, schema="pg_catalog", name="pg_catalog.pg_statistic", is_system=True)}
    seen: Any = SimpleNamespace(tables=tables, held=())
    job: Any = SimpleNamespace(settings=VacuumSettings())
    done = [
        {"oid": oid, "table": table.name, "report": {"unremovable": 270}, "limit": 130} for oid, table in tables.items()
    ]
    assert [*_unremovable(done[1:], seen, job)] == []
    [finding] = _unremovable(done, seen, job)
    assert "s.t (270)" in finding.message and "pg_statistic" not in finding.message


def test_rows_that_nobody_has_counted_are_not_called_none() -> None:
    """A report in another language, or one of ANALYZE, says nothing of rows removed: neither do we."""

    def done(**report: float) -> Outcome:
        evidence = {"table": "s.t", "before": {}, "after": {}, "report": report}
        return Outcome(status=OutcomeStatus.DONE, detail="", evidence=evidence)

    assert together([done(), done()]).detail == "2 small tables: 2 done"
    assert together([done(removed=3), done(removed=0)]).detail == "2 small tables: 2 done; 3 rows removed"
    assert together([done(removed=3), done()]).detail == "2 small tables: 2 done; 3 rows removed from 1 of them"


def test_only_the_table_itself_can_be_gone() -> None:
    """One that was dropped since the plan is nobody's trouble; one of which something else is missing is."""
    job: Any = None
    work = Work(name="s.t", schema="s", table="t", vacuum=True)
    for state, message, status in (
        ("42P01", 'relation "s.t" does not exist', "skipped"),
        ("3F000", 'schema "s" does not exist', "skipped"),
        ("42P01", 'relation "t" does not exist', "failed"),
        ("42883", "function f(integer) does not exist", "failed"),
    ):
        made = outcome(Done(work, Failed("other", message, state)), job)
        assert (made.status, len(made.findings)) == (status, int(status == "failed"))
