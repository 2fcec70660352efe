"""What is said of each column that differs, and of what could not be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from upkeep.core.drift import Aspect, ColumnDrift, Distribution, Effect, Profile
from upkeep.core.model import Finding, Judgement, Measurement, Severity, Threshold
from upkeep.routines.model._drift_settings import Settings
from upkeep.routines.model._drift_tests import Key, adjusted, chances

_SAID = {"missing": "missing values", "infinite": "infinite numbers", "outliers": "numbers outside of"}
_ADVICE = {
    "distribution": "see what changed in the data's source, unit or population; when it is there to stay, look at the"
    " model's scores (model.health), then retrain it or approve a new profile (model.profile)",
    "missing": "find the step that stopped (or began) to fill the column in; see how the model treats missing values",
    "infinite": "look for a division by zero or an overflow in what computes the column",
    "outliers": "look at the largest and smallest values of the window: a unit may have changed, or a sensor broken",
    "new_categories": "see whether these are new words for old ones; the model has never seen them",
    "vanished_categories": "see whether a source stopped delivering them, or they have another name now",
    "constant": "a column without differences usually means that its source is broken and a default is filled in",
    "type": "see what writes the column: a changed type is read as another value, or as none, by most models",
}
_METHODS = {"PSI": "psi", "KS": "ks", "Wasserstein": "wasserstein", "Jensen-Shannon": "jensen_shannon"}


@dataclass(frozen=True)
class Context:
    """What every finding of a run needs: the settings, which column is the answer, and the profile's name."""

    settings: Settings
    prediction: str | None
    profile: Profile
    version: int
    q: Mapping[Key, float]

    def check(self, column: str) -> str:
        """Return the check that a column belongs to."""
        return "prediction_drift" if column == self.prediction else "feature_drift"

    def named(self, column: str) -> str:
        """Return a column as people read it."""
        return f"{'prediction' if column == self.prediction else 'feature'} {column}"


def judge(
    columns: tuple[ColumnDrift, ...], settings: Settings, prediction: str | None, profile: Profile, version: int
) -> Judgement:
    """Judge all columns of a window together: with many of them, one is always unusual."""
    context = Context(settings, prediction, profile, version, adjusted(chances(columns)))
    findings = [f for column in columns for f in _column(column, context)]
    drifted = {f.subject.rsplit(" ", 1)[0] for f in findings if f.severity is not Severity.INFO}
    measurements = [m for column in columns for m in _measured(column)]
    if columns:
        share = 100 * len(drifted) / len(columns)
        measurements.append(Measurement(name="drift.columns", value=share, unit="%"))
    return Judgement(measurements=tuple(measurements), findings=tuple(findings))


def _column(column: ColumnDrift, context: Context) -> Iterator[Finding]:
    if column.distribution is not None:
        yield from _distribution(column, column.distribution, context)
    elif column.kind in ("identifier", "other", "empty", "time"):
        yield _unjudged(column, context)
    elif all(a.name not in ("missing", "type") or a.now < 0.5 for a in column.aspects):
        yield _few(column, context)
    for aspect in column.aspects:
        yield from _aspect(column, aspect, context)


def _distribution(column: ColumnDrift, found: Distribution, context: Context) -> Iterator[Finding]:
    q = context.q[column.column, "distribution"]
    judged = [(*crossed(effect, context.settings), effect) for effect in found.effects]
    severity, limit, effect = max(judged, key=lambda one: (one[0].rank, one[2].value))
    if severity is Severity.OK or q >= context.settings.alpha:
        return
    numbers = ", ".join(f"{e.method} {e.value:.3g} (limit {lim:.3g})" for _, lim, e in judged if lim is not None)
    before = context.profile.columns[column.column].values
    yield Finding(
        check=context.check(column.column),
        subject=f"{column.column} distribution",
        severity=severity,
        message=f"{context.named(column.column)} is distributed otherwise than in profile version {context.version}:"
        f" {found.said}; {numbers}; {found.test} p = {found.p:.2g}, {q:.2g} among {len(context.q)} tests;"
        f" {column.values:,} values against {before:,}",
        observed=f"{effect.method} {effect.value:.3g}",
        limit="" if limit is None else f"{limit:.3g}",
        hint=_ADVICE["distribution"],
    )


def crossed(effect: Effect, settings: Settings) -> tuple[Severity, float | None]:
    """Return the severity of an effect and the limit that counts for it, which is never below what chance does."""
    threshold: Threshold = getattr(settings, _METHODS[effect.method])
    severity, limit = threshold.crossed(effect.value)
    limits = [one for one in (limit, threshold.info, threshold.warning, threshold.critical) if one is not None]
    if effect.value <= effect.floor:
        severity = Severity.OK
    return severity, max(limits[0], effect.floor) if limits else None


def _aspect(column: ColumnDrift, aspect: Aspect, context: Context) -> Iterator[Finding]:
    q = context.q.get((column.column, aspect.name), 0.0)
    moved = 100 * abs(aspect.now - aspect.before)
    if aspect.name == "constant":
        severity, limit = Severity.WARNING, None
    else:
        severity, limit = getattr(context.settings, aspect.name).crossed(moved)
    if severity is Severity.OK or q >= context.settings.alpha:
        return
    chance = "" if aspect.p is None else f"; p = {aspect.p:.2g}, {q:.2g} among {len(context.q)} tests"
    yield Finding(
        check=context.check(column.column),
        subject=f"{column.column} {aspect.name}",
        severity=severity,
        message=f"{context.named(column.column)}: {_words(aspect)} (profile version {context.version}){chance};"
        f" {column.rows:,} rows",
        observed=_percent(aspect.now),
        limit="" if limit is None else f"{limit:g} points from {_percent(aspect.before)}",
        hint=_ADVICE[aspect.name],
    )


def _words(aspect: Aspect) -> str:
    change = f"{_percent(aspect.before)} -> {_percent(aspect.now)}"
    match aspect.name:
        case "new_categories":
            return f"{_percent(aspect.now)} of the rows have categories that were not there: {aspect.said}"
        case "vanished_categories":
            return f"categories are gone that {_percent(aspect.before)} of the rows had: {aspect.said}"
        case "constant":
            return f"every value is {aspect.said} now; before, at most {_percent(aspect.before)} had one and the same"
        case "type":
            return f"{_percent(aspect.now)} of the rows have another type: {aspect.said}"
        case "outliers":
            return f"numbers outside of {aspect.said}: {change}"
    return f"{_SAID[aspect.name]}: {change}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _unjudged(column: ColumnDrift, context: Context) -> Finding:
    why = {
        "identifier": "nearly every row has a value of its own",
        "other": "its values are binary or nested",
        "empty": "the profile has no value of it",
        "time": "times always move on",
    }[column.kind]
    return Finding(
        check=context.check(column.column),
        subject=f"{column.column} distribution",
        severity=Severity.INFO,
        message=f"{context.named(column.column)}: its distribution is not compared, because {why}",
        hint="leave it out of `features`, or add it to `ignore` of model.drift",
    )


def _few(column: ColumnDrift, context: Context) -> Finding:
    return Finding(
        check=context.check(column.column),
        subject=f"{column.column} distribution",
        severity=Severity.INFO,
        message=f"{context.named(column.column)}: too few values to compare ({column.values:,} now,"
        f" {context.profile.columns[column.column].values:,} in the profile); at least 30 are needed",
        hint="nothing is to be done where the column is nearly always empty; else add it to `ignore` of model.drift",
    )


def _measured(column: ColumnDrift) -> Iterator[Measurement]:
    for effect in column.distribution.effects if column.distribution else ():
        yield Measurement(name=f"drift.{_METHODS[effect.method]}", value=effect.value, unit="", subject=column.column)
    for aspect in column.aspects:
        if aspect.name in ("missing", "infinite", "outliers", "new_categories"):
            yield Measurement(name=f"drift.{aspect.name}", value=100 * aspect.now, unit="%", subject=column.column)
