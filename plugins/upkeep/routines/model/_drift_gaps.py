"""What keeps drift from being known: no profile, a changed one, too few rows, rows and columns that are not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from upkeep.core.drift import Drifted, Profile, ProfileEntry, ProfileIndex, ReadState
from upkeep.core.errors import UpkeepError
from upkeep.core.job import History
from upkeep.core.model import Finding, Measurement, Severity
from upkeep.core.targets import ModelTarget
from upkeep.routines.model._drift_settings import Settings

_SHOWN = 5
HASH = "profile.hash"
"""The first 48 bits of a version's hash: as many as a measurement holds exactly."""


def no_data(target: ModelTarget) -> Finding:
    """Tell that the model's data are not described: nothing is wrong, and nothing is known."""
    return Finding(
        check="scoring",
        subject="",
        severity=Severity.INFO,
        message=f"{target.id}: no scoring data described: whether its data drift is not looked at",
        hint="describe `scoring` (a query or files) in the system file, or skip model.drift with the reason",
    )


def no_profile(target: ModelTarget, index: ProfileIndex, end: datetime) -> Finding:
    """Tell that there is nothing to compare with, and how to make it."""
    later = min((e.made_at for e in index.versions), default=None)
    since = f" at {_day(end)}; the first is of {_day(later)}" if later else ""
    return _unknown(
        "profile",
        "",
        f"{target.id} has no reference profile{since}: drift is unknown",
        "runs of later windows have one"
        if later
        else "python -m upkeep.profile_command build <system>/<target>; or trigger approved_changes with routine"
        " model.profile and agree to what it proposes",
    )


def altered(target: ModelTarget, error: UpkeepError) -> Finding:
    """Tell that the profile is not the one that was kept; it was not used."""
    return Finding(
        check="profile",
        subject="altered",
        severity=Severity.CRITICAL,
        message=f"{target.id}: the reference profile is not used, drift is unknown: {error.message}",
        hint=error.hint,
    )


def hash_of(entry: ProfileEntry) -> Measurement:
    """Return what the ledger remembers of a version, so that nobody can change file and index together."""
    return Measurement(name=HASH, value=int(entry.sha256[:12], 16), unit="", subject=f"v{entry.version}")


def replaced(entry: ProfileEntry, history: History) -> Finding | None:
    """Tell that a version has another hash than in earlier runs."""
    known, now = history.last(HASH, f"v{entry.version}"), hash_of(entry)
    if known is None or known.value == now.value:
        return None
    return Finding(
        check="profile",
        subject="replaced",
        severity=Severity.CRITICAL,
        message=f"profile version {entry.version} is another one than at {_day(known.at)}: its hash begins with"
        f" {entry.sha256[:12]}, expected {int(known.value):012x}; it was compared with, but what it says counts little",
        hint="find out who replaced file and index, and restore them; a folder begun anew needs a next version",
    )


def too_few(read: ReadState, settings: Settings, what: str) -> Finding | None:
    """Tell that so few rows say nothing."""
    if read.rows >= settings.min_rows:
        return None
    return _unknown(
        "rows",
        what,
        f"{read.rows:,} rows in the {what}, expected at least {settings.min_rows:,}: drift is unknown",
        "see whether the source still delivers and its bounds are right; where so few are usual, look at longer windows"
        " or lower `min_rows`",
    ).model_copy(update={"observed": str(read.rows), "limit": str(settings.min_rows)})


def of_reading(read: ReadState, settings: Settings) -> Iterator[Finding]:
    """Tell of files and rows that could not be read."""
    if read.unread:
        said = "; ".join(f"{u.place}: {u.reason}" for u in read.unread[:_SHOWN])
        more = f" and {len(read.unread) - _SHOWN} more" if len(read.unread) > _SHOWN else ""
        yield _unknown(
            "unread",
            "",
            f"{len(read.unread)} sources could not be read: {said}{more}",
            "their rows are unknown: correct or remove them, then run this window again",
        )
    lost = read.broken + read.undated
    share = 100 * lost / (read.rows + lost) if lost else 0.0
    severity, limit = settings.lost_rows.crossed(share)
    if severity is not Severity.OK:
        yield Finding(
            check="rows_lost",
            subject="",
            severity=severity,
            message=f"{read.broken:,} broken lines and {read.undated:,} rows without a readable time were left out,"
            f" beside {read.rows:,} rows",
            observed=f"{share:.3g} %",
            limit=f"{limit:g} %",
            hint="look at what writes the files: a separator in a text without quotes, a cut file, another time format",
        )


def of_columns(
    drifted: Drifted, profile: Profile, features: Sequence[str] | None, prediction: str | None
) -> Iterator[Finding]:
    """Tell of columns that one side lacks."""
    for column in drifted.absent:
        check = "prediction_drift" if column == prediction else "feature_drift"
        yield _unknown(
            check,
            f"{column} absent",
            f"column {column} is not in the data, which the profile has: its drift is unknown",
            "see whether it was renamed or dropped; the model may work without it now, or with a default",
        )
    named = [*(features or ()), *([prediction] if prediction else [])]
    for column in named:
        if column not in profile.columns:
            yield _unknown(
                "profile",
                f"{column} absent",
                f"column {column} is not in the profile: its drift is unknown",
                "approve a new profile (model.profile), or correct `features` and `prediction` in the system file",
            )
    if drifted.added and features is None:
        yield Finding(
            check="columns",
            subject="",
            severity=Severity.INFO,
            message=f"{len(drifted.added)} columns that the profile does not have: {', '.join(drifted.added[:20])}",
            hint="name the model's `features` in the system file; a new profile takes new columns in",
        )


def _unknown(check: str, subject: str, message: str, hint: str) -> Finding:
    return Finding(check=check, subject=subject, severity=Severity.UNKNOWN, message=message, hint=hint)


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
