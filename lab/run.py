"""Run a cadence over the lab in a real Airflow, show what happens, and go on serving: `python -m lab.run`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab.airflow import Airflow
from lab.embedded import Lab
from lab.faults import planted_faults
from lab.past import PAST
from lab.postgres import bin
from lab.process import LabError
from lab.systems import CLUSTERS

CADENCES = ("daily", "weekly", "monthly", "quarterly")
# What a reader has to look at; ok and info are not trouble.
TROUBLE = ("critical", "unknown", "warning")
_MARKS = {"success": "ok", "failed": "FAILED", "skipped": "skipped", "upstream_failed": "not run"}


def airflow_of(lab: Lab) -> Airflow:
    """Return the lab's Airflow: its metadata in the platform cluster, its connections from the environment."""
    # Physical backups are read by programs of their own major.
    programs = os.pathsep.join(str(bin(major)) for major in sorted(set(CLUSTERS.values())))
    return Airflow(lab.home / "airflow", env=lab.environment() | {"UPKEEP_PG_BIN": programs})


def start_run(airflow: Airflow, dag_id: str) -> str:
    """Start a run and return its id.

    The first time, that is the scheduler's own run of the newest window, which follows from unpausing the DAG; later
    ones of the same day are manual.
    """
    airflow.wait_for_dag(dag_id)
    known = {run["dag_run_id"] for run in airflow.runs(dag_id)}
    if airflow.is_paused(dag_id):
        airflow.unpause(dag_id)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            fresh = [run["dag_run_id"] for run in airflow.runs(dag_id) if run["dag_run_id"] not in known]
            if fresh:
                return str(fresh[0])
            time.sleep(0.5)
    return airflow.trigger(dag_id)


def follow(airflow: Airflow, dag_id: str, run_id: str, say: Callable[[str], None], seconds: float = 900) -> str:
    """Say of every task how it ended, as it ends; return the state of the run."""
    told: set[tuple[str, int]] = set()
    deadline = time.monotonic() + seconds
    while True:
        state = airflow.state(dag_id, run_id)
        for task in sorted(airflow.tasks(dag_id, run_id), key=lambda one: one["end_date"] or "9"):
            key = (task["task_id"], task["map_index"])
            if key not in told and task["state"] in _MARKS:
                told.add(key)
                label = f"{task['task_id']} {task.get('rendered_map_index') or ''}".strip()
                say(f"  {label:42} {_MARKS[task['state']]:8} {task['duration'] or 0:6.1f} s")
        if state in ("success", "failed"):
            return state
        if time.monotonic() > deadline:
            raise LabError(f"{dag_id} {run_id} is still {state} after {seconds:.0f} s; see {airflow.url}")
        time.sleep(1)


def result(lab: Lab, dag_id: str, run_id: str) -> dict[str, Any]:
    """Return verdict, reasons and findings of a run from the ledger."""
    with lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        run = ledger.execute(
            "select verdict, reasons from upkeep.run where dag_id = %s and run_id = %s", [dag_id, run_id]
        ).fetchone()
        findings = ledger.execute(
            "select distinct f.severity, f.target, f.routine, f.check_name, f.subject, f.message, f.hint"
            " from upkeep.finding f join upkeep.routine_run r on r.id = f.routine_run_id"
            " where r.dag_id = %s and r.run_id = %s",
            [dag_id, run_id],
        ).fetchall()
    names = ("severity", "target", "routine", "check", "subject", "message", "hint")
    found = [dict(zip(names, row, strict=True)) for row in findings]
    return {"verdict": run[0] if run else None, "reasons": run[1] if run else [], "findings": found}


def has_backups(lab: Lab) -> bool:
    """Tell whether a run has kept a backup."""
    with lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        table = ledger.execute("select to_regclass('upkeep.backup')").fetchone()
        found = table != (None,) and ledger.execute("select exists (select from upkeep.backup)").fetchone() == (True,)
    return found


def has_run_before(lab: Lab) -> bool:
    """Tell whether there is a run of a day ago or more: what was new in it is known by now."""
    with lab.clusters["platform"].connect("upkeep_ledger") as ledger:
        table = ledger.execute("select to_regclass('upkeep.run')").fetchone()
        if table == (None,):
            return False
        return ledger.execute(
            "select exists (select from upkeep.run where run_id not like %s"
            " and opened_at < now() - interval '23 hours')",
            [f"{PAST}%"],
        ).fetchone() == (True,)


def compare(
    found: list[dict[str, Any]], cadence: str, systems: set[str] | None = None, again: bool = False
) -> tuple[list[str], list[str]]:
    """Return which planted faults were not found, and which troubles were found that nobody planted.

    :param again: the ledger remembers runs of other days, so that what is only found while it is new may be missing.
    """
    faults = [one for one in planted_faults(cadence) if systems is None or one.system in systems]
    planted = {(one.target, one.routine, one.check, one.severity) for one in faults}
    needed = {(one.target, one.routine, one.check, one.severity) for one in faults if not (again and one.known_later)}
    seen = {(f["target"], f["routine"], f["check"], f["severity"]) for f in found}
    # What is merely told (info) may be planted, and is no trouble when nobody planted it.
    unplanned = {one for one in seen - planted if one[3] in TROUBLE}
    return [" ".join(one) for one in sorted(needed - seen)], [" ".join(one) for one in sorted(unplanned)]


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; 0 when exactly the planted faults were found."""
    parser = argparse.ArgumentParser(prog="scripts/run", description="Run a cadence over the embedded lab.")
    parser.add_argument(
        "--once", nargs="?", const="daily", choices=CADENCES, metavar="CADENCE",
        help="run this cadence (default: daily), then end everything",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _run(given.once or "daily", stay=given.once is None)
    except LabError as error:
        print(f"scripts/run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(cadence: str, stay: bool) -> int:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    lab = Lab()
    airflow, dag_id = None, f"maintenance_{cadence}"
    with _ending(lab) as parts:
        lab.up(say=say)
        airflow = airflow_of(lab)
        parts.append(airflow)
        say("starting Airflow")
        airflow.start()
        if cadence != "daily" and not has_backups(lab):
            say("the first backups: the other cadences read what the daily one keeps")
            follow(airflow, "maintenance_daily", start_run(airflow, "maintenance_daily"), say)
        again = has_run_before(lab)
        run_id = start_run(airflow, dag_id)
        say(f"{dag_id}: {run_id}")
        state = follow(airflow, dag_id, run_id, say)
        outcome = result(lab, dag_id, run_id)
        missing, unplanned = compare(outcome["findings"], cadence, again=again)
        _tell(outcome, state)
        for text in missing:
            print(f"planted, but not found: {text}")
        for text in unplanned:
            print(f"found, but not planted: {text}")
        if not missing and not unplanned:
            print("Exactly the planted faults of lab/faults.yaml were found.")
        print(f"Airflow: {airflow.url}/dags/{dag_id}/runs/{run_id}   (nobody needs to log in)")
        print(f"Files:   {airflow.folder / 'upkeep' / 'reports' / dag_id}")
        if stay:
            print("Serving until Ctrl-C.", flush=True)
            while True:
                time.sleep(3600)
        return 1 if missing or unplanned else 0


@contextmanager
def _ending(lab: Lab) -> Iterator[list[Airflow]]:
    """End what was started, Airflow before the lab, however the block ends."""
    parts: list[Airflow] = []
    try:
        yield parts
    finally:
        for part in parts:
            part.stop()
        lab.down()


def _tell(outcome: dict[str, Any], state: str) -> None:
    print(f"\nVerdict: {str(outcome['verdict'] or 'unknown').upper()}   (the run's state in Airflow: {state})")
    order = {severity: rank for rank, severity in enumerate((*TROUBLE, "info", "ok"))}
    for finding in sorted(outcome["findings"], key=lambda f: (order[f["severity"]], f["target"], f["check"])):
        if finding["severity"] in TROUBLE:
            message = finding["message"].replace("\n", "\n" + " " * 30)
            print(f"  {finding['severity']:8} {finding['target']:18} {message}")
            print(f"  {'':27} -> {finding['hint']}")
    print()


if __name__ == "__main__":
    sys.exit(main())
