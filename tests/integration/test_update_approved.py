"""Updates through the whole lifecycle: proposed by one run, agreed to in part, made by another one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import MAJORS
from tests.integration.database_bench import database, server
from tests.integration.test_outdated import serve
from tests.integration.update_bench import ROUTINE, Bench, publish
from upkeep.core.model import Action
from upkeep.ledger import events as ev
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.operators.lifecycle import Lifecycle

type Named = tuple[str, str]
_numbers = itertools.count(1)


class Site:
    """Two manifests with one vulnerable pin each, and the ledger."""

    def __init__(self, folder: Path, bench: Bench, dsn: str) -> None:
        self.folder, self.bench, self.dsn = folder, bench, dsn
        self.ledger = Ledger(lambda: dsn, Spool(folder / "spool"))

    def run(self, approved: frozenset[Named] | None = None, objects: Mapping[Named, Any] | None = None) -> Lifecycle:
        """Run the routine as its operator does, in a worker that knows nothing of earlier runs."""
        self.last = f"r{next(_numbers)}"
        job = replace(self.bench.job(), run_id=self.last)
        key = ev.RoutineKey(dag_id="d", run_id=job.run_id, routine=ROUTINE.name, target=job.target.id, try_number=1)
        work = Lifecycle(
            ROUTINE, job, key, self.ledger, dry_run=False, last_try=True, approved=approved, objects=objects or {}
        )
        work.run()
        return work

    def pins(self) -> list[str]:
        """Return the contents of both manifests."""
        return [(self.folder / "app" / name).read_text() for name in ("a.txt", "b.txt")]

    def deeds(self) -> list[tuple[str, str, str]]:
        """Return file, status and detail of the actions of the newest run on record."""
        statement = (
            "select a.subject, a.status, a.detail from upkeep.action as a join upkeep.routine_run as r on"
            " r.id = a.routine_run_id where r.run_id = %s order by a.number"
        )
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(statement, [self.last]).fetchall()
        return [(Path(subject).name, status, detail) for subject, status, detail in rows]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The site."""
    with serve() as index, database(server(MAJORS[-1]), "upkeep_ledger"):
        publish(index, "django", v3_2_0="", v3_2_5="")
        bench = Bench(tmp_path / "app", index, name="a.txt").advise("CVE-2021-1", "django", "0", "3.2.5")
        (tmp_path / "app" / "b.txt").write_text("django==3.2.0\n")
        bench.target["manifests"] = [str(tmp_path / "app" / "*.txt")]
        made = Site(tmp_path, bench, server(MAJORS[-1]).dsn("upkeep_ledger"))
        yield made
        made.ledger.close()


def named(action: Action) -> Named:
    """Return what an answer names an action by."""
    return action.name, action.subject


OLD, NEW = "django==3.2.0\n", "django==3.2.5\n"


def test_a_yes_to_one_of_two(site: Site) -> None:
    """Without an answer nothing is written; then the one file changes, and the other only when it is agreed to."""
    first, second = site.run().planned
    assert site.pins() == [OLD, OLD]
    assert [status for _, status, _ in site.deeds()] == ["proposed", "proposed"]
    site.run(frozenset({named(second)}), {named(second): second.details["oid"]})
    assert site.pins() == [OLD, NEW]
    assert [(name, status) for name, status, _ in site.deeds()] == [("b.txt", "done")]
    again = site.run(frozenset({named(second)}), {named(second): second.details["oid"]})  # a second worker, later
    assert site.pins() == [OLD, NEW] and [named(one) for one in again.planned] == [named(first)]
    ((_, status, detail),) = site.deeds()
    assert status == "skipped" and "no longer needed" in detail


def test_a_yes_to_something_else(site: Site) -> None:
    """What was agreed to was another change, or of another file than the one that is there now: nothing is written."""
    first, second = site.run().planned
    (site.folder / "app" / "a.txt").write_text("# changed\n" + OLD)
    agreed = {named(one): one.details["oid"] for one in (first, second)}
    site.bench.advise("CVE-2021-2", "django", "3.2.5", "3.2.9")  # now 3.2.5 is not what would be proposed
    site.run(frozenset(agreed), agreed)
    assert site.pins() == ["# changed\n" + OLD, OLD]
    assert {status for _, status, _ in site.deeds()} == {"skipped"}
