"""`SelectTargetsOperator`: the first task of a cadence, says what the run is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule

from upkeep.core.targets import TARGET_KINDS
from upkeep.operators import params
from upkeep.operators.policy import RETRY_POLICY

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from upkeep.core.errors import UpkeepError
    from upkeep.core.model import Finding, Severity
    from upkeep.core.routine import Routine
    from upkeep.core.system import System
    from upkeep.ledger.events import Expected, RoutineKey
    from upkeep.ledger.store import Ledger
    from upkeep.operators.run import Run
    from upkeep.systems.problem import Problem


# Selection is recorded like a routine, under a target that no system can have.
ROUTINE, TARGET = "systems.select", "site/systems"


class SelectTargetsOperator(BaseOperator):
    """Read the system files and hand the selected targets, by kind, to the routines that follow.

    `select.of("postgres")` is the list of PostgreSQL targets, `select.of("files", "model")` that of two kinds. A bad
    system file becomes a critical finding of the run and takes nothing else down; an unknown system or routine name in
    the run's params is an error, because the run would otherwise be green without having done anything.
    """

    ui_color = "#f1f1f1"

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)
        self._kinds: dict[tuple[str, ...], TargetsOperator] = {}

    def of(self, *kinds: str) -> XComArg:
        """Return the selected targets of one or several kinds, to map over.

        This adds one small task a list: Airflow maps only over what a task returns, and a task returns one thing.

        :raises ValueError: there is no such kind of target.
        """
        for kind in kinds or ("",):
            if kind not in TARGET_KINDS:
                raise ValueError(
                    f"select.of({kind!r}): unknown kind of target, expected one of {', '.join(TARGET_KINDS)}"
                )
        if kinds not in self._kinds:
            self._kinds[kinds] = TargetsOperator(
                task_id="_".join([*kinds, "targets"]), kinds=kinds, select=self.task_id, dag=self.dag,
                task_group=self.dag.task_group,
            )  # fmt: skip
            self >> self._kinds[kinds]
        return self._kinds[kinds].output

    def execute(self, context: Context) -> None:
        """Push one XCom per kind of target, and note in the ledger what the run must produce results for."""
        from upkeep.ledger.events import RoutineKey
        from upkeep.operators import wiring
        from upkeep.operators.lifecycle import Row
        from upkeep.operators.run import Run, cadence_of

        run = Run.of(context, wiring.now())
        key = RoutineKey(**run.key.model_dump(), routine=ROUTINE, target=TARGET, try_number=run.try_number)
        with wiring.open_ledger() as ledger:
            row = Row(ledger, key, wiring.now)
            self._open_run(run, cadence_of(run.key.dag_id), ledger)
            row.open()
            try:
                systems, worst_found = self._select(run, key, list(routine_paths(context["dag"])), ledger)
            except BaseException as error:
                row.close_failed(error, run.last_try)
                raise
            row.close("success", worst_found)
        for kind, targets in _by_kind(systems).items():
            context["ti"].xcom_push(key=kind, value=targets)
            if targets:
                self.log.info("%s: %s", kind, ", ".join(t["id"] for t in targets))

    def _select(self, run: Run, key: RoutineKey, wired: list[str], ledger: Ledger) -> tuple[list[System], Severity]:
        """Record what is wrong with the configuration, and what is expected; return the systems of the run."""
        from upkeep.core.model import worst
        from upkeep.operators import wiring
        from upkeep.systems.load import load_all

        # Settings are checked against every routine there is, not only those that this DAG wires.
        known, broken = _load(wired)
        loaded = load_all()
        asked = [s for s in loaded.systems.values() if run.systems is None or s.name in run.systems]
        problems = [*loaded.problems, *_settings_problems(asked, known.values())]
        findings = _findings([p for p in problems if _concerns(p, run)], broken) + _too_many(_by_kind(asked))
        self._record(key, findings, ledger)
        routines = {known[path].name: known[path] for path in wired if path in known}
        params.check_names("system", run.systems, set(loaded.systems) | _names_of(loaded.problems))
        params.check_names("routine", run.routines, routines)
        params.check_settings(run.params, routines)
        ledger.write(_expected(run, asked, list(routines.values()), wiring.now()))
        return asked, worst(f.severity for f in findings)

    def _open_run(self, run: Run, cadence: Any, ledger: Ledger) -> None:
        from upkeep.ledger.events import RunOpened
        from upkeep.operators import wiring

        ledger.write(
            RunOpened(
                at=wiring.now(),
                run=run.key,
                cadence=cadence.value if cadence else run.key.dag_id,
                run_type=run.type,
                window_start=run.window.start,
                window_end=run.window.end,
                params=params.without_secrets(run.params),
            )
        )

    def _record(self, key: RoutineKey, findings: tuple[Finding, ...], ledger: Ledger) -> None:
        from upkeep.ledger.events import Observed
        from upkeep.operators import wiring

        ledger.write(Observed(at=wiring.now(), routine=key, stage="judge", system="site", findings=findings))
        for finding in findings:
            self.log.error("%s -> %s", finding.message, finding.hint)


class TargetsOperator(BaseOperator):
    """Hand on the selected targets of some kinds; see `SelectTargetsOperator.of`."""

    ui_color = "#f1f1f1"

    def __init__(self, *, kinds: Sequence[str], select: str, **kwargs: Any) -> None:
        kwargs["trigger_rule"] = TriggerRule.ALL_SUCCESS
        kwargs.setdefault("retry_policy", RETRY_POLICY)
        super().__init__(**kwargs)
        self.kinds, self.select = tuple(kinds), select

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the targets, which may be none: what maps over them is then skipped.

        :raises ConfigurationError: there are more than Airflow maps over.
        """
        from upkeep.core.errors import ConfigurationError

        pull = context["ti"].xcom_pull
        targets = [one for kind in self.kinds for one in pull(task_ids=self.select, key=kind) or []]
        for finding in _too_many({", ".join(self.kinds): targets}):
            raise ConfigurationError(finding.message, finding.hint)
        return targets


def _findings(problems: list[Problem], broken: dict[str, UpkeepError]) -> tuple[Finding, ...]:
    """Turn what is wrong with the configuration into critical findings."""
    from upkeep.core.model import Finding, Severity

    files = [
        Finding(
            check="system_file",
            subject=" ".join(filter(None, (Path(p.file).name, p.key))),
            severity=Severity.CRITICAL,
            message=str(p.model_copy(update={"hint": ""})),
            hint=p.hint or "mend the file; its system was left out of this run",
        )
        for p in problems
    ]
    modules = [
        Finding(check="routine", subject=path, severity=Severity.CRITICAL, message=error.message, hint=error.hint)
        for path, error in broken.items()
    ]
    return tuple(files + modules)


def _too_many(targets: Mapping[str, list[Any]]) -> tuple[Finding, ...]:
    """Return a critical finding for each kind with more targets than Airflow maps over.

    The limit that counts is the API server's; it normally has the worker's configuration.
    """
    from airflow.sdk.configuration import conf

    from upkeep.core.model import Finding, Severity

    limit = conf.getint("core", "max_map_length", fallback=1024)
    return tuple(
        Finding(
            check="map_length",
            subject=kind,
            severity=Severity.CRITICAL,
            message=f"{len(some)} targets of kind {kind}, and Airflow maps over at most {limit}: none is worked on",
            observed=str(len(some)),
            limit=str(limit),
            hint="raise [core] max_map_length (AIRFLOW__CORE__MAX_MAP_LENGTH) for API server, scheduler and workers,"
            " or run fewer systems at a time with the param `systems`",
        )
        for kind, some in targets.items()
        if len(some) > limit
    )


def _load(wired: Iterable[str]) -> tuple[dict[str, Routine], dict[str, UpkeepError]]:
    """Load the wired routines and all others by path; a broken one is told with its reason and takes no other down."""
    from upkeep.core.errors import UpkeepError
    from upkeep.core.routine import Routine, discover_paths

    good: dict[str, Routine] = {}
    bad: dict[str, UpkeepError] = {}
    try:
        others = discover_paths()
    except UpkeepError as error:
        others, bad["upkeep.routines"] = [], error
    for path in dict.fromkeys([*wired, *others]):
        try:
            good[path] = Routine.load(path)
        except UpkeepError as error:
            bad[path] = error
    return good, bad


def routine_paths(dag: Any) -> Iterator[str]:
    """Yield the dotted path of every routine wired in a DAG, mapped or not, once."""
    seen: set[str] = set()
    for task in dag.tasks:
        path = getattr(getattr(task, "operator_class", type(task)), "routine", None)
        if isinstance(path, str) and path not in seen:
            seen.add(path)
            yield path


def _settings_problems(systems: Iterable[System], routines: Iterable[Routine]) -> list[Problem]:
    from upkeep.systems.settings import check_settings

    known = {routine.name: routine for routine in routines}
    return [problem for system in systems for problem in check_settings(system, known)]


def _concerns(problem: Problem, run: Run) -> bool:
    """Whether a problem is one of this run: a run of one system is not red for another's file."""
    path = Path(problem.file)
    return run.systems is None or path.suffix.lower() not in (".yaml", ".yml") or path.stem in run.systems


def _names_of(problems: tuple[Problem, ...]) -> set[str]:
    """Return the names of systems whose files are bad: asking for one is not a typing error."""
    return {Path(problem.file).stem for problem in problems}


def _by_kind(systems: Iterable[System]) -> dict[str, list[dict[str, Any]]]:
    """Return the targets of the systems for every kind there is, as plain values."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in TARGET_KINDS}
    for system in systems:
        for one in system.targets.values():
            found[one.kind].append({"id": one.id, "system": system.name, "kind": one.kind, "skip": one.skip})
    return found


def _expected(run: Run, systems: list[System], routines: list[Routine], at: Any) -> Expected:
    from upkeep.ledger.events import Expected

    items = tuple(
        Expected.Item(routine=r.name, target=t.id, system=s.name, skip=t.skip.get(r.name, ""))
        for s in systems
        for t in s.targets.values()
        for r in routines
        if t.kind in r.targets and (run.routines is None or r.name in run.routines)
    )
    return Expected(at=at, run=run.key, items=items)
