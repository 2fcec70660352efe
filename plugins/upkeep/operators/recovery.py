"""The tasks of the emergency restore, and the operator of the disaster-recovery test."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.operators import request
from upkeep.operators.approval import ApprovedChangesOperator, RequestOperator
from upkeep.operators.base import RoutineOperator
from upkeep.systems import cache
from upkeep.systems.source import system_files, systems_dir

if TYPE_CHECKING:
    from airflow.sdk import Context

    from upkeep.core.routine import Routine
    from upkeep.operators.run import Run

RESTORE = "recovery.restore"
_FORM = ("backup", "reason", "another_server", "without_safety_backup")
# By kind of target, the routine that backs it up.
_SAFETY = {"postgres": "backup.postgres", "files": "backup.files", "model": "backup.files"}
_TARGETS = re.compile(r"^targets:[^\n]*\n((?:[ \t]+[^\n]*\n|[ \t]*(?:#[^\n]*)?\n)*)", re.MULTILINE)
_TARGET = re.compile(r"^  ([a-z][a-z0-9_-]*):((?:[^\n]*\n)(?:   [^\n]*\n|[ \t]*\n)*)", re.MULTILINE)
_KIND = re.compile(r"\bkind:[ ]*([a-z_]+)")


class _FromForm:
    """Takes what the form asks for as the settings of the restore."""

    def _begin(self, context: Context) -> Run:
        run: Run = super()._begin(context)  # type: ignore[misc]
        return with_settings(run, {name: run.params[name] for name in _FORM if run.params.get(name) is not None})


class EmergencyRequestOperator(_FromForm, RequestOperator):
    """Look at backup, server and target, and say what a person is to agree to; nothing is changed."""


class EmergencyRestoreOperator(_FromForm, ApprovedChangesOperator):
    """Restore exactly the backup that was agreed to, when what it replaces is still what was there then."""

    ui_color = "#f6d5d0"

    def _begin(self, context: Context) -> Run:
        run = super()._begin(context)
        # The safety backup is newer: "latest" would now mean that one.
        agreed = [action.get("details") or {} for action in (self._asked or {}).get("actions", ())]
        return with_settings(run, {"backup": agreed[0]["backup"]}) if agreed else run


class MendOperator(_FromForm, RoutineOperator):
    """Go back from what an interrupted restore left half done, so that the present state can be backed up."""

    routine = "upkeep.routines.recovery.restore"
    ui_color = "#f6f0e2"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(target="", **kwargs)

    def _begin(self, context: Context) -> Run:
        from upkeep.operators import params

        run = super()._begin(context)
        self.target = params.one_name(run.params, "target")
        return with_settings(run, {"mend_only": True})


class SafetyBackupOperator(RoutineOperator):
    """Back the present state up by the target's ordinary routine, unless the form says to go on without."""

    ui_color = "#f6f0e2"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(target="", **kwargs)
        self._chosen, self._without = "", False

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the summary of the backup, or why there is none: what comes after it goes on in both cases."""
        from airflow.sdk.exceptions import AirflowSkipException

        try:
            return super().execute(context)
        except AirflowSkipException as skipped:
            if not self._without:
                raise
            self.log.warning("%s", skipped)
            return {"skipped": str(skipped)}

    def _begin(self, context: Context) -> Run:
        from upkeep.operators import params
        from upkeep.systems.load import load_system

        run = super()._begin(context)
        self.target = params.one_name(run.params, "target")
        self._without = bool(run.params.get("without_safety_backup"))
        kind = load_system(self.target_id.split("/", 1)[0]).target(self.target_id).kind
        paths = request.paths_of_routines()
        params.check_names("kind of target", [kind], _SAFETY)
        self._chosen = paths[_SAFETY[kind]]
        return run

    @property
    def _path(self) -> str:
        return self._chosen

    def _why_not(self, run: Run, routine: Routine) -> str:
        if self._without:
            return "the form says to go on without a safety backup; the present state is kept under another name"
        return super()._why_not(run, routine)


class DisasterRecoveryTestOperator(RoutineOperator):
    """Bring a whole system back from its backups alone, in a place of its own, and ask its services."""

    routine = "upkeep.routines.recovery.system"


def with_settings(run: Run, values: dict[str, Any]) -> Run:
    """Return the run with settings of the restore above those that it has."""
    given = dict(run.params.get("settings") or {})
    given[RESTORE] = {**(given.get(RESTORE) or {}), **values}
    return run.model_copy(update={"params": run.params | {"settings": given}})


def restorable() -> list[str]:
    """Return the targets that a restore knows, for the form; a file that cannot be read contributes none.

    Read as lines and kept in a cache, for DAG files are parsed every half minute. It only fills in proposals: any
    other target can be typed.
    """
    known = _known()
    fresh: dict[str, Any] = {}
    for path in system_files(systems_dir())[0]:
        try:
            found = path.stat()
            stamp = [found.st_mtime_ns, found.st_ctime_ns, found.st_size]
            kept = known.get(str(path))
            fresh[str(path)] = kept if kept and kept[0] == stamp else [stamp, _targets(path)]
        except (OSError, UnicodeDecodeError):
            continue
    if fresh != known:
        cache.write("restorable.json", json.dumps(fresh).encode())
    return [target for _, targets in fresh.values() for target in targets]


def _known() -> dict[str, Any]:
    try:
        kept = json.loads(cache.read("restorable.json") or b"{}")
        return {path: [list(stamp), [str(t) for t in targets]] for path, (stamp, targets) in kept.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _targets(path: Path) -> list[str]:
    section = _TARGETS.search(path.read_text().replace("\r\n", "\n") + "\n")
    found = _TARGET.findall(section[1]) if section else []
    kinds = [(name, _KIND.search(text)) for name, text in found]
    return [f"{path.stem}/{name}" for name, kind in kinds if kind and kind[1] in _SAFETY]
