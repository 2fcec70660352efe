"""Log review in the real lifecycle with a real ledger: on time, again, in a backfill, by hand, without a ledger."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.log_review_bench import DAY, day_of, entry, rotate
from upkeep.adapters.log_review import Reader
from upkeep.core.cadence import Window
from upkeep.core.errors import CriticalFindingError
from upkeep.core.job import Job
from upkeep.core.model import Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import LogSetTarget
from upkeep.ledger import events as ev
from upkeep.ledger.catalogue import LedgerCatalogue
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger, LedgerHistory
from upkeep.operators.lifecycle import Lifecycle

ONE = timedelta(days=1)
_numbers = itertools.count(1)
_databases = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as ledger:
        yield ledger


class Cut(Ledger):
    """A ledger whose connection is lost after so many questions."""

    left = 10**9

    def _ask(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        self.left -= 1
        if self.left < 0:
            raise OSError("cut")
        return super()._ask(statement, values)


@dataclass
class Site:
    """A folder of logs and a ledger."""

    dsn: str
    home: Path
    kind: str = "python"
    said: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.home / "logs"
        self.folder.mkdir(exist_ok=True)
        self.ledger = Cut(lambda: self.dsn, Spool(self.home / "spool"))

    def write(self, text: str) -> None:
        with (self.folder / "app.log").open("a") as file:
            file.write(text)

    def run(
        self, window: Window, *, home: str = "marks", dry_run: bool = False, run_id: str = "", **settings: Any
    ) -> dict[str, Any]:
        """Run the routine once as Airflow would; return its findings and measurements."""
        routine, ledger = Routine.load("upkeep.routines.logs.review"), self.ledger
        run = ev.RunKey(dag_id="daily", run_id=run_id or f"run{next(_numbers)}")
        key = ev.RoutineKey(**run.model_dump(), routine=routine.name, target="x/app-log", try_number=1)
        opened = ev.RunOpened(at=datetime.now(UTC), run=run, cadence="daily", run_type="x", window_start=window.start,
                              window_end=window.end)  # fmt: skip
        ledger.write(opened)
        tools: Any = SimpleNamespace(
            logs=Reader(self.home / home),
            history=LedgerHistory(ledger, key, window.start),
            catalogue=LedgerCatalogue(ledger, run),
            log=logging.getLogger("test"),
            now=lambda: datetime.now(UTC),
        )
        job: Job[Any, Any] = Job(
            routine=routine.name,
            target=LogSetTarget(id="x/app-log", paths=(str(self.folder / "*.log*"),), format=self.kind),  # type: ignore[arg-type]
            system=SimpleNamespace(name="x", timezone="UTC"),  # type: ignore[arg-type]
            settings=routine.resolve_settings(("test", settings)),
            window=window,
            run_id=run.run_id,
            try_number=1,
            tools=tools,
        )
        work = Lifecycle(routine, job, key, ledger, dry_run=dry_run, last_try=True)
        said: dict[str, Any] = {"findings": [], "measurements": {}, "summary": None}
        note = work._note

        def listen(stage: Any, judgement: Any) -> None:
            said["findings"] += judgement.findings
            said["measurements"] |= {(m.name, m.subject): m.value for m in judgement.measurements}
            note(stage, judgement)

        work._note = listen  # type: ignore[method-assign]
        with contextlib.suppress(CriticalFindingError):
            said["summary"] = work.run().model_dump(mode="json")
        return said

    def day(self, n: int, **how: Any) -> dict[str, Any]:
        """Run the window of one day."""
        newest = how.pop("newest", True)
        return self.run(Window(start=DAY + n * ONE, end=DAY + (n + 1) * ONE, newest=newest), **how)


@pytest.fixture
def site(server: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    database = f"review{next(_databases)}"
    server.create_database(database)
    made = Site(server.dsn(database), tmp_path)
    yield made
    made.ledger.close()


def told(said: dict[str, Any]) -> Any:
    return [f.model_dump(mode="json") for f in said["findings"]], said["measurements"]


def test_ten_past_days_give_what_they_gave_on_time(site: Site):
    """With the ledger's real history, which by now knows the future; also a repeat at once, and a run by hand."""
    on_time = []
    for n in range(10):
        site.write("".join(text for _, text in day_of("python", DAY + n * ONE, n)))
        on_time.append(told(site.day(n)))
        assert told(site.day(n)) == on_time[n], f"again on day {n}"
        rotate(site.folder, n)
    new = [sum(f["check"] == "new_pattern" and f["subject"] != "" for f in findings) for findings, _ in on_time]
    assert new[0] == 0 and sum(n > 0 for n in new) >= 8, new
    by_hand = site.run(Window(start=DAY + 10 * ONE, end=DAY + 10 * ONE))
    assert not [f for f in by_hand["findings"] if f.check == "new_pattern"]
    assert by_hand["measurements"]["entries", ""] == on_time[9][1]["entries", ""]
    for home in ("marks", "nowhere"):
        for n in (0, 4, 3, 2, 1, 9, 8, 7, 6, 5):
            assert told(site.day(n, home=home, newest=False)) == on_time[n], f"backfill of day {n}"


def test_without_the_ledger_nothing_is_called_new(site: Site):
    """Away from the start, or lost between two questions: unknown, and never one page for each known pattern."""
    for n in range(3):
        site.write("".join(text for _, text in day_of("python", DAY + n * ONE, 1)))
        site.day(n)
    site.write("".join(entry("python", DAY + 3 * ONE, "ERROR", f"trouble number b at /srv/{n}/x") for n in range(40)))
    assert [f.subject for f in site.day(3)["findings"] if f.check == "new_pattern"] == []
    assert [f.check for f in site.run(Window(start=DAY - ONE, end=DAY))["findings"]] == []
    site.ledger.left = 0
    assert [f.check for f in site.run(Window(start=DAY - ONE, end=DAY))["findings"]] == ["silent"]
    for left in range(5):
        site.ledger.left = left
        findings = [f for f in site.day(3)["findings"] if f.check == "new_pattern"]
        site.ledger.left, site.ledger._away_until = 10**9, 0
        assert [(f.subject, f.severity) for f in findings] in ([("", Severity.UNKNOWN)], []), (left, findings)
        assert findings or left > 1, left


def test_a_dry_run_reads_and_says_the_same(site: Site):
    """It changes nothing, and a later run says what it said; what travels through XCom are numbers."""
    site.write("".join(text for _, text in day_of("python", DAY, 1)))
    dry = site.day(0, dry_run=True, run_id="dry")
    assert told(site.day(0)) == told(dry)
    quiet = site.run(Window(start=DAY - ONE, end=DAY), dry_run=True)["summary"]
    assert set(quiet) == {"target", "routine", "severity", "findings", "actions", "dry_run", "ledger"}
    assert len(json.dumps(quiet)) < 300
