"""The faults of faults.yaml: plants them in a running lab, and takes them away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lab import planters, planters_care, planters_logs, planters_models
from lab.log_writers import write_logs
from lab.manifests import write_manifests
from lab.profiles import write_profiles
from lab.scoring import write_scoring

if TYPE_CHECKING:
    from lab.embedded import Lab

_FILE = Path(__file__).with_name("faults.yaml")


@dataclass(frozen=True)
class PlantedFault:
    """An entry of faults.yaml: what is wrong, and the finding that must follow in runs of these cadences."""

    id: str
    cadences: tuple[str, ...]
    system: str
    target: str
    routine: str
    check: str
    severity: str
    planted_by: str
    explanation: str
    known_later: bool = False


def planted_faults(cadence: str | None = None) -> tuple[PlantedFault, ...]:
    """Return the faults that runs of a cadence (or of any) must find."""
    entries = [PlantedFault(**one | {"cadences": tuple(one["cadences"])}) for one in yaml.safe_load(_FILE.read_text())]
    return tuple(fault for fault in entries if cadence is None or cadence in fault.cadences)


def set_faults(lab: Lab, planted: bool) -> None:
    """Plant every fault, or take every fault away. Either may be repeated: what a run has mended is planted anew."""
    for name in sorted({fault.planted_by for fault in planted_faults()}):
        PLANTERS[name](lab, planted)
    write_logs(lab, planters_logs.CHANGES)
    write_manifests(lab.home, planters_models.pins(lab))
    if write_scoring(lab, planters_models.scoring_changes(lab)):
        write_profiles(lab, datetime.now(UTC))


PLANTERS: dict[str, Callable[[Lab, bool], None]] = {
    one.__name__: one
    for one in (
        planters.sequence_near_its_end,
        planters.forgotten_transaction,
        planters.missing_privilege,
        planters.degraded_service,
        planters.slow_endpoint,
        planters_care.autovacuum_switched_off,
        planters_care.bloated_index,
        planters_care.changed_setting,
        planters_care.duplicate_index,
        planters_care.invalid_index,
        planters_care.locked_table,
        planters_care.lost_references,
        planters_care.restart_needed,
        planters_care.slow_reports,
        planters_care.limit_nearly_reached,
        planters_logs.error_burst,
        planters_logs.injection,
        planters_logs.failed_logins,
        planters_logs.secret_in_log,
        planters_logs.torn_lines,
        planters_logs.slow_statement,
        planters_logs.deaf_writer,
        planters_logs.stray_database,
        planters_models.vulnerable_packages,
        planters_models.outdated_package,
        planters_models.expired_ignore,
        planters_models.drifted_features,
        planters_models.inaccurate_week,
        planters_models.changed_model_file,
        planters_models.old_training,
        planters_models.slow_prediction,
    )
}
