"""What a person is shown of a candidate before it becomes the reference."""

from __future__ import annotations

from typing import Any

from upkeep.core.drift import ColumnProfile, Profile
from upkeep.core.model import Finding, Severity

_MOST = 60


def details(profile: Profile, changed: tuple[Finding, ...]) -> dict[str, Any]:
    """Return the facts of a candidate. Its hash is the `oid`: what was agreed to is these data and no others."""
    columns = [f"{name}: {column_said(column)}" for name, column in list(profile.columns.items())[:_MOST]]
    if len(profile.columns) > _MOST:
        columns.append(f"and {len(profile.columns) - _MOST} more")
    return {
        "oid": profile.sha256,
        "rows": profile.rows,
        "start": profile.start.isoformat() if profile.start else None,
        "end": profile.end.isoformat() if profile.end else None,
        "columns": columns,
        "changed": [f"{f.subject}: {f.message}" for f in changed[:_MOST]],
    }


def column_said(column: ColumnProfile) -> str:
    """Return a column in one line."""
    empty = f", {100 * column.missing / column.rows:.3g} % missing" if column.missing and column.rows else ""
    odd = f", {column.mismatched:,} values of another type" if column.mismatched else ""
    if column.kind == "number" and column.edges:
        low, middle, high = (_quantile(column, share) for share in (0.05, 0.5, 0.95))
        return f"number, 5 % {low:.4g}, median {middle:.4g}, 95 % {high:.4g}{empty}{odd}"
    if column.kind == "category":
        first = sorted(column.counts.items(), key=lambda item: (-item[1], item[0]))[:3]
        said = ", ".join(f"{name!r:.30} {count / (column.values or 1):.0%}" for name, count in first)
        return f"{len(column.counts):,} categories: {said}{empty}{odd}"
    return f"{column.kind} ({column.type}), kept without values{empty}"


def _quantile(column: ColumnProfile, share: float) -> float:
    """Return the first edge up to which so large a share of the numbers lies."""
    passed, wanted = 0, share * column.values
    for edge, between, at in zip(column.edges, column.between[:-1], column.at, strict=True):
        passed += between + at
        if passed >= wanted:
            return edge
    return column.edges[-1]


def weaknesses(profile: Profile) -> list[Finding]:
    """Return what of a candidate would tell little: columns that no drift is seen in."""
    found = []
    for name, column in profile.columns.items():
        said = {
            "identifier": "nearly every row has a value of its own",
            "other": f"its values are {column.type}",
            "empty": "it has no value at all",
        }.get(column.kind)
        if column.kind == "number" and sum(1 for n in column.at if n) == 1 and not sum(column.between):
            said = "all of its values are the same"
        if column.kind == "category" and len(column.counts) == 1:
            said = "all of its values are the same"
        if column.mismatched:
            said = f"{column.mismatched:,} of its values are no {column.kind}"
        if said:
            found.append(
                Finding(
                    check="candidate",
                    subject=name,
                    severity=Severity.INFO,
                    message=f"column {name} tells little of drift: {said}",
                    hint="look at it before agreeing to the profile, or leave it out of `features`",
                )
            )
    return found
