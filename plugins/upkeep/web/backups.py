"""The pages about backups: all series, the backups of a target, and everything that proves one of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from upkeep.core.model import Severity
from upkeep.report import evidence, human, restored, shelf
from upkeep.report.shelf import Proven
from upkeep.report.templating import render
from upkeep.web.ledger import SeriesLine

TEMPLATES = Path(__file__).parent / "templates"
UTC = ZoneInfo("UTC")
# What the page of a backup says in words of its own.
_TOLD = (
    *("id", "kind", "tier", "parent", "key_id", "location", "manifest_sha256", "content_sha256", "size_bytes"),
    *("source_bytes", "ok", "learned"),
)


def series(lines: Sequence[SeriesLine], now: datetime) -> str:
    """Return the list of all series."""
    return render("backups.html", TEMPLATES, lines=[_series(line, now) for line in lines])


def target(name: str, backups: Sequence[Proven], now: datetime) -> str:
    """Return the backups of one target, removed ones included."""
    shelves = shelf.shelves(backups, now, UTC, len(backups))
    return render("target.html", TEMPLATES, target=name, shelves=shelves)


def backup(found: Proven, now: datetime) -> str:
    """Return everything that is on record about one backup."""
    severity, word = verdict(found)
    return render(
        "backup.html",
        TEMPLATES,
        backup=found,
        severity=severity,
        word=word,
        row=shelf.held(found, now, UTC),
        facts=tuple(_facts(found)),
        verified=tuple(evidence.facts(found.verification or {}, UTC, _TOLD)),
        tests=tuple(shelf.looks(found, UTC)),
        query=urlencode({"target": found.target}),
    )


def verdict(found: Proven) -> tuple[Severity, str]:
    """Return what the proof of a backup amounts to. Without a look at it, it is unknown whether it is any good."""
    looks = (found.verified_ok, found.tested_ok)
    if False in looks:
        return Severity.CRITICAL, "Not to be relied on: the last look at it found something wrong"
    if found.tested_ok:
        told = restored.word(found.tests[0])[1] if found.tests else "restored"
        return Severity.OK, f"Proved: {told}{' to its source' if told.endswith('identical') else ''}"
    if found.verified_ok:
        return Severity.OK, "Proved: it was read back and found whole; it was not restored yet"
    return Severity.UNKNOWN, "Not proved: nobody has read it back or restored it yet"


def _facts(found: Proven) -> Sequence[evidence.Fact]:
    key = human.Shown(f"by key {found.key_id}" if found.key_id else "no")
    known = [
        evidence.Fact("finished", human.moment(found.finished, UTC)),
        evidence.Fact("tier", human.Shown(found.tier)),
        evidence.Fact("size", human.size(found.size_bytes) if found.size_bytes is not None else human.Shown("unknown")),
        evidence.Fact("encrypted", key),
        evidence.Fact("location", human.Shown(found.location), code=True),
        evidence.Fact("manifest SHA-256", human.Shown(found.manifest_sha256 or "unknown"), code=True),
        evidence.Fact("content SHA-256", human.Shown(found.content_sha256 or "unknown"), code=True),
    ]
    if found.source_bytes is not None:
        known.insert(3, evidence.Fact("source", human.size(found.source_bytes)))
    if found.parent:
        known.insert(2, evidence.Fact("incremental to", human.Shown(found.parent), code=True))
    if found.summary.get("learned"):
        known.append(
            evidence.Fact("record", human.Shown("from its manifest in the store; the ledger had not known it"))
        )
    return [*known, *evidence.facts(found.summary, UTC, (*_TOLD, "finished"))]


def _series(line: SeriesLine, now: datetime) -> dict[str, Any]:
    def ago(at: datetime | None) -> human.Shown:
        if at is None:
            return human.Shown("never")
        return human.Shown(f"{human.duration((now - at).total_seconds()).text} ago", human.moment(at, UTC).text)

    return {
        "line": line,
        "query": urlencode({"target": line.target}),
        "severity": Severity.OK if line.proved_at else Severity.UNKNOWN,
        "word": "proved" if line.proved_at else "not proved",
        "size": human.size(line.size_bytes),
        "newest": ago(line.newest_at),
        "proved": ago(line.proved_at),
        "tested": ago(line.tested_at),
    }
