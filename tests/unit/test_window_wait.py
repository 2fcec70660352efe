"""When heavy work may begin, and what the ledger and the ladder make of work that waits."""

from __future__ import annotations

import logging
import uuid
from contextlib import nullcontext
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.unit.lifecycle_bench import Bench
from upkeep.adapters import target_lock
from upkeep.core.cadence import Cadence, RunType, Window
from upkeep.core.model import Severity
from upkeep.core.system import MaintenanceWindow
from upkeep.core.targets import PostgresTarget
from upkeep.escalation import late
from upkeep.ledger import events as ev
from upkeep.ledger.record import RunRecord, fold
from upkeep.ledger.verdict import judge_run
from upkeep.operators import wiring
from upkeep.operators.run import Run
from upkeep.operators.window import Begin, Pass, Wait, decide

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NIGHT = MaintenanceWindow(start=time(22), end=time(4))
RUN = ev.RunKey(dag_id="maintenance_weekly", run_id="r")


def decision(tmp_path: Path, now: datetime = NOON, windowed: bool = True, **given: Any) -> Begin | Wait | Pass:
    """Decide for a routine on a system in Berlin whose window is 22:00 to 04:00."""
    system: Any = SimpleNamespace(name="claims", zone=ZoneInfo("Europe/Berlin"), maintenance_window=NIGHT)
    routine = Bench(tmp_path, windowed=windowed).routine
    return decide(routine, system, now, **({"since": now, "longest": timedelta(hours=24)} | given))


def test_it_waits_for_the_opening_in_utc(tmp_path: Path):
    """22:00 in Berlin in November is 21:00 UTC, and the reason says so."""
    assert decision(tmp_path) == Wait(
        opens=datetime(2026, 11, 21, 21, tzinfo=UTC),
        reason="waits for the maintenance window of claims, which opens 2026-11-21 21:00 UTC",
    )


def test_inside_it_begins_and_knows_the_end(tmp_path: Path):
    """So that it does not begin what would last longer."""
    assert decision(tmp_path, datetime(2026, 11, 21, 23, tzinfo=UTC)) == Begin(
        until=datetime(2026, 11, 22, 3, tzinfo=UTC)
    )


@pytest.mark.parametrize("given", [{"windowed": False}, {"free": True}])
def test_what_no_window_binds_begins_at_once(tmp_path: Path, given: dict[str, Any]):
    """A light routine, a dry run, and a person who has decided so."""
    assert decision(tmp_path, **given) == Begin()


def test_the_limit_counts_from_the_first_waiting(tmp_path: Path):
    """Work that missed its window because no worker was free does not wait from window to window for ever."""
    assert isinstance(decision(tmp_path, since=NOON - timedelta(hours=15)), Wait)
    late_again = decision(tmp_path, since=NOON - timedelta(hours=16))
    assert isinstance(late_again, Pass)
    assert late_again.finding.severity is Severity.INFO
    assert "closed until 2026-11-21 21:00 UTC, and this run waits at most 24 h" in late_again.reason


def test_its_finding_is_the_same_next_week(tmp_path: Path):
    """No time stands in its key."""
    keys = set()
    for week in range(2):
        passed = decision(tmp_path, NOON + timedelta(weeks=week), longest=timedelta(0))
        assert isinstance(passed, Pass)
        keys.add(passed.finding.key("claims/db", "sample.work"))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("kind", "free"), [("manual", True), ("scheduled", False), ("backfill", False), ("operator_triggered", False)]
)
def test_only_a_person_works_outside_the_window(kind: str, free: bool):
    """What the scheduler starts does not, whatever its params say."""
    window = Window(start=NOON, end=NOON)
    params = {"outside_window": True}
    run = Run(key=RUN, type=RunType.of(kind), window=window, params=params, try_number=1, last_try=False)
    assert run.outside_window is free


def waiting(*targets: str, opens: datetime | None = None, then: str = "") -> RunRecord:
    """Return a run in which a routine waits on these targets until `opens`, or went on to the state `then`."""
    opens = opens or NOON + timedelta(hours=9)
    items = tuple(ev.Expected.Item(routine="sample.work", target=t, system=t.split("/")[0]) for t in targets)
    told: list[Any] = [ev.Expected(at=NOON, run=RUN, items=items)]
    for target in targets:
        key = ev.RoutineKey(**RUN.model_dump(), routine="sample.work", target=target, try_number=1, task="work")
        opened = ev.RoutineOpened(at=NOON, routine=key, system=target.split("/")[0], role="dba", title="Work")
        reason = "waits for the maintenance window of claims, which opens 2026-11-21 21:00 UTC"
        closed = ev.RoutineClosed(
            at=NOON, routine=key, state="waiting", severity=Severity.OK, reason=reason, opens=opens
        )
        told += [opened, closed]
        if then:
            again = opened.model_copy(update={"at": opens})
            told += [again, ev.RoutineClosed(at=opens, routine=key, state=then, severity=Severity.OK)]
    return fold(RUN, told)


def test_waiting_is_no_result(tmp_path: Path):
    """It is missing until it has gone on; a run that ends with it is critical, and says what happened."""
    record = waiting("claims/db")
    assert [item.target for item in record.missing] == ["claims/db"]
    [reason] = judge_run(record).reasons
    assert "ended while it still waits for the maintenance window of claims" in reason
    gone_on = waiting("claims/db", then="success")
    assert (gone_on.missing, gone_on.waiting) == ((), ())
    assert judge_run(gone_on).passed


class Desk:
    """A desk that only remembers who would have been told."""

    def __init__(self, record: RunRecord) -> None:
        self.record, self.told = record, list[str]()

    def tell(self, cause: str, call: Any, notice: Any) -> None:
        self.told.append(notice.subject)

    def summary(self) -> str:
        return f"{len(self.told)} told"


@pytest.fixture
def two_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems claims and student, late after an hour."""
    text = (
        "name: {name}\ntitle: x\nladder: {{deadlines: {{weekly: 1 h}}}}\n"
        "contacts: {{dba: {{primary: {{name: D, channels: [{{kind: email, address: d@x.org}}]}}}}}}\n"
        "targets: {{db: {{kind: postgres, conn_id: db}}}}\n"
    )
    for name in ("claims", "student"):
        (tmp_path / f"{name}.yaml").write_text(text.format(name=name))
    monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path))


def told(record: RunRecord, at: datetime) -> tuple[str, list[str]]:
    """Let a deadline come at a moment; return the answer and whose contacts were told."""
    desk = Desk(record)
    run = late.LateRun(
        key=RUN, type=RunType.SCHEDULED, cadence=Cadence.WEEKLY, rung=1, elapsed=timedelta(hours=1), deadline=at,
        ended=None, state="running", params={},
    )  # fmt: skip
    return late.tell_late(run, lambda _: nullcontext(desk)), desk.told  # type: ignore[arg-type]


@pytest.mark.usefixtures("two_systems")
def test_nobody_is_paged_about_work_that_waits(caplog: pytest.LogCaptureFixture):
    """Neither its own system nor the others, for whom only the end of the run is missing."""
    caplog.set_level(logging.INFO)
    answer = told(waiting("claims/db"), NOON + timedelta(hours=1))
    assert answer == ("quiet: all that is left waits for its maintenance window", [])


@pytest.mark.usefixtures("two_systems")
def test_work_that_has_not_gone_on_is_late():
    """A triggerer that is down lets everything wait for ever: once the window is open, people hear of it."""
    record = waiting("claims/db", opens=NOON + timedelta(hours=2))
    assert told(record, NOON + timedelta(hours=3)) == ("1 told", ["claims"])


@pytest.mark.usefixtures("two_systems")
def test_beside_work_that_waits_other_work_is_late():
    """Waiting excuses only what waits."""
    record = waiting("claims/db")
    item = ev.Expected.Item(routine="sample.work", target="student/db", system="student")
    record = record.model_copy(update={"expected": (*record.expected, item)})
    assert told(record, NOON + timedelta(hours=1)) == ("1 told", ["student"])


def test_a_routine_that_is_wired_twice_has_two_rows():
    """Each task's tries are its own, and both must end; without a task the identity is that of older versions."""
    old = ev.RoutineKey(**RUN.model_dump(), routine="sample.work", target="claims/db", try_number=1)
    assert old.id == uuid.uuid5(ev.NAMESPACE, "\x1f".join(("maintenance_weekly", "r", "sample.work", "claims/db", "1")))
    keys = [old.model_copy(update={"task": task}) for task in ("newest", "older")]
    assert len({key.id for key in (old, *keys)}) == 3
    item = ev.Expected.Item(routine="sample.work", target="claims/db", system="claims")
    told: list[Any] = [ev.Expected(at=NOON, run=RUN, items=(item,))]
    told += [ev.RoutineOpened(at=NOON, routine=key, system="claims", role="dba", title="Work") for key in keys]
    told += [ev.RoutineClosed(at=NOON, routine=keys[0], state="success", severity=Severity.OK)]
    assert len(fold(RUN, told).routines) == 2 and len(fold(RUN, told).missing) == 1
    told += [ev.RoutineClosed(at=NOON, routine=keys[1], state="success", severity=Severity.OK)]
    assert fold(RUN, told).missing == ()
    only = [ev.Expected(at=NOON, run=RUN, items=(item.model_copy(update={"task": "do"}),)), *told[1:]]
    assert len(fold(RUN, only).missing) == 1


@pytest.mark.parametrize(("minutes", "patience"), [(None, 3600.0), (120, 3600.0), (10, 600.0), (-1, 0.0)])
def test_a_turn_that_would_come_after_the_window_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int | None, patience: float
):
    """The patience of an exclusive routine ends with the window, if not before."""
    held: list[float] = []
    monkeypatch.setattr(wiring, "conninfo", str)
    monkeypatch.setattr(wiring, "now", lambda: NOON)
    monkeypatch.setattr(target_lock, "hold", lambda *_, patience, **__: held.append(patience) or nullcontext())
    routine = Bench(tmp_path, exclusive=timedelta(hours=1)).routine
    until = None if minutes is None else NOON + timedelta(minutes=minutes)
    with wiring.alone_on(routine, PostgresTarget(conn_id="db", id="claims/db"), False, until)():
        assert held == [patience]
