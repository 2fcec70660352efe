"""What the review says about bloat; how it is found out is in `_bloat`."""

from __future__ import annotations

from upkeep.core.model import Finding, Judgement, Severity
from upkeep.routines.database._bloat import Bloat, told
from upkeep.routines.database._index_seen import Review, label, limited
from upkeep.routines.database._index_settings import Settings
from upkeep.routines.database._seen import judged, measured, percent


def judge(review: Review, settings: Settings) -> Judgement:
    """Judge tables and indexes that are mostly empty, and say of which nobody knows."""
    judgement = Judgement(findings=_unmeasured(review))
    for kind in ("index", "table"):
        some = [b for b in review.bloats if b.kind == kind]
        found = [f for b in sorted(some, key=lambda b: -(b.wasted_bytes or 0)) for f in _bloated(b, settings)]
        wasted = sum(b.wasted_bytes or 0 for b in some)
        judgement += Judgement(
            measurements=measured(f"bloat.{kind}", len(found), f"{'indexes' if kind == 'index' else 'tables'}")
            + measured(f"bloat.{kind}_bytes", wasted, "bytes"),
            findings=limited(found, settings.top),
        )
    return judgement


def _bloated(bloat: Bloat, settings: Settings) -> tuple[Finding, ...]:
    if bloat.ratio is None or bloat.wasted_bytes is None:
        return ()
    subject = _label(bloat)
    why = f"; not measured: {bloat.why}" if bloat.how == "estimated" else ""
    return judged(
        f"bloat_{bloat.kind}",
        subject,
        settings.bloat,
        bloat.ratio * 100,
        message=f"{told(bloat)} of {bloat.kind} {subject} is empty or dead{why}",
        hint=_cure(bloat),
        say=percent,
        # An estimate is a reason to measure, not to rebuild.
        at_most=_AT_MOST
        if bloat.how == "measured" and bloat.wasted_bytes >= settings.bloat_warn_bytes
        else Severity.INFO,
    )


_AT_MOST = Severity.CRITICAL


def _label(bloat: Bloat) -> str:
    return label(bloat.schema, bloat.index or bloat.table) + (" (TOAST)" if bloat.toast else "")


def _cure(bloat: Bloat) -> str:
    if bloat.kind == "index":
        return (
            f"REINDEX INDEX CONCURRENTLY {bloat.name}; -- needs room for a second copy\n"
            "undo: none is needed, the definition stays"
        )
    return (
        f"VACUUM {bloat.name}; -- makes the space usable for new rows: enough for a table that grows again\n"
        "To give it back to the system: pg_repack, or VACUUM FULL, which locks everybody out and needs approval"
    )


def _unmeasured(review: Review) -> tuple[Finding, ...]:
    """Say once that bloat is estimated only, or that some could not even be estimated."""
    if not review.bloats:
        return ()
    if review.tool.schema is None:
        message = "bloat is only estimated: the extension pgstattuple is not there or may not be used"
        return (_info("pgstattuple", message, review.tool.cure),)
    unknown = [b for b in review.bloats if b.how == "unknown"]
    if not unknown:
        return ()
    first = max(unknown, key=lambda b: b.size_bytes)
    message = (
        f"of {len(unknown)} tables and indexes nobody knows how much is empty; the largest is"
        f" {_label(first)}: {first.why}"
    )
    hint = "raise `measure_each_bytes`, `measure_total_bytes` or `measure_seconds` of database.index_review"
    return (_info("unmeasured", message, hint),)


def _info(subject: str, message: str, hint: str) -> Finding:
    return Finding(check="bloat", subject=subject, severity=Severity.INFO, message=message, hint=hint)
