"""The last two tasks of a cadence: the report, which always runs, and the verdict, which decides the run's colour."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule

from upkeep.operators.policy import RETRY_POLICY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.ledger.record import RunRecord
    from upkeep.ledger.store import Ledger
    from upkeep.ledger.verdict import Verdict

# Kept longer than a year so that an auditor can compare with the same month of last year.
MEASUREMENT_DAYS = 400
REPORT_DAYS = 1100
log = logging.getLogger(__name__)
SHAPES = {"html": "html", "markdown": "md"}


class _LastOperator(BaseOperator):
    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)


class ReportOperator(_LastOperator):
    """Write the report of this run: one HTML page and one maintenance log in Markdown.

    Both go to the ledger, where the Airflow page reads them, and to files below `UPKEEP_HOME/reports`.
    """

    ui_color = "#eef6ee"

    def execute(self, context: Context) -> dict[str, str]:
        """Build and keep the report; return where the files are."""
        from upkeep.ledger.verdict import judge_run
        from upkeep.operators import wiring
        from upkeep.operators.run import Run

        run = Run.of(context, wiring.now())
        with wiring.open_ledger() as ledger:
            record = ledger.record(run.key)
            verdict = judge_run(record)
            if _keep_report(ledger, record, verdict):
                ledger.prune(MEASUREMENT_DAYS, REPORT_DAYS)
        paths = {shape: str(wiring.report_path(run.key, suffix)) for shape, suffix in SHAPES.items()}
        self.log.info("report: %s", paths["html"])
        return paths | {"verdict": verdict.severity.value}


class VerdictOperator(_LastOperator):
    """Close the run: fail it when something critical was found, a routine failed or an expected result is missing."""

    ui_color = "#f6eeee"

    def execute(self, context: Context) -> str:
        """Judge the run, close its row and, when it is critical, fail.

        :raises CriticalFindingError: the run is critical; the message lists why.
        """
        from upkeep.core.errors import CriticalFindingError
        from upkeep.ledger.events import RunClosed
        from upkeep.ledger.verdict import judge_run
        from upkeep.operators import wiring
        from upkeep.operators.run import Run

        run = Run.of(context, wiring.now())
        with wiring.open_ledger() as ledger:
            record = ledger.record(run.key)
            verdict = judge_run(record)
            if _is_outdated(ledger, record):
                _keep_report(ledger, record, verdict)
            ledger.write(RunClosed(at=wiring.now(), run=run.key, verdict=verdict.severity, reasons=verdict.reasons))
        self.log.info("verdict: %s", verdict.severity)
        for reason in verdict.reasons:
            self.log.error("%s", reason)
        if not verdict.passed:
            raise CriticalFindingError(
                f"the run is critical: {'; '.join(verdict.reasons)}", "open the run's report for what to do"
            )
        return verdict.severity.value


def _keep_report(ledger: Ledger, record: RunRecord, verdict: Verdict) -> bool:
    """Build the report and keep it in files and ledger; return whether the ledger has it."""
    from upkeep.ledger.events import ReportKept
    from upkeep.operators import wiring
    from upkeep.report import build, gather

    made = build(record, verdict, gather(ledger, record, wiring.now()))
    kept = ledger.write(ReportKept(at=wiring.now(), run=record.run, html=made.html, markdown=made.markdown))
    try:
        for shape, suffix in SHAPES.items():
            path = wiring.report_path(record.run, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(getattr(made, shape), encoding="utf-8")
    except OSError as error:
        if not kept:
            raise
        log.error("report: the ledger has it, its files cannot be written: %s", error)
    return kept


def _is_outdated(ledger: Ledger, record: RunRecord) -> bool:
    """Whether something was done after the report was kept: "clear only failed" leaves a report that succeeded."""
    kept = ledger.ask("report_of_run", **record.run.model_dump()) or ()
    ended = [routine.closed_at for routine in record.routines if routine.closed_at]
    return any(moment > report["at"] for report in kept for moment in ended)
