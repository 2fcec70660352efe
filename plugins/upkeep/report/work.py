"""What a routine did, in short: totals, and one line for each thing it worked on. A vacuum may have 2,000 of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from upkeep.core.model import OutcomeStatus, Severity
from upkeep.ledger.record import ActionRecord
from upkeep.report import human

FEW = 5
"""Up to so many actions are told one by one, with their evidence."""
ROWS = 10
_NOTE = 240
_WORDS = {
    "": ("never closed", Severity.UNKNOWN),
    "planned": ("planned, not done", Severity.INFO),
    "proposed": ("needs approval, not done", Severity.INFO),
    OutcomeStatus.DONE: ("done", Severity.OK),
    OutcomeStatus.UNCHANGED: ("nothing needed doing", Severity.OK),
    OutcomeStatus.SKIPPED: ("skipped", Severity.INFO),
    OutcomeStatus.FAILED: ("failed", Severity.CRITICAL),
}
# The worst first, then what waits for somebody; what is done comes by its size.
_ORDER = ("failed", "", "proposed", "skipped")
_PARTS = ("heap", "toast", "indexes")


def outcome_words(status: str) -> tuple[str, Severity]:
    """Return what a status means and how bad it is; one that is not known here is unknown, never good."""
    return _WORDS.get(status, (status, Severity.UNKNOWN))


class Line(NamedTuple):
    """One thing that was worked on; numbers are None where nobody counted them. `seconds` is the time it took."""

    what: str
    subject: str
    status: str
    rows: float | None = None
    pages: float | None = None
    before: float | None = None
    after: float | None = None
    seconds: float | None = None
    detail: str = ""

    @property
    def outcome(self) -> str:
        """What became of it, in words."""
        return outcome_words(self.status)[0]

    @property
    def severity(self) -> Severity:
        """How bad that is."""
        return outcome_words(self.status)[1]

    @property
    def removed(self) -> human.Shown:
        """Rows that were removed."""
        return human.Shown("") if self.rows is None else human.Shown(human.number(self.rows))

    @property
    def size(self) -> human.Shown:
        """The size before and after, or the only one that is known."""
        if self.before is None or self.after is None or self.before == self.after:
            known = self.after if self.before is None else self.before
            return human.Shown("") if known is None else human.size(known)
        old, new = human.size(self.before), human.size(self.after)
        return human.Shown(f"{old.text} → {new.text}", f"{old.exact} before, {new.exact} after")

    @property
    def took(self) -> human.Shown:
        """How long it took."""
        return human.Shown("") if self.seconds is None else human.duration(self.seconds)

    @property
    def note(self) -> str:
        """What was said about it, where numbers do not tell it."""
        told = self.status == OutcomeStatus.DONE and (self.rows is not None or self.before is not None)
        return "" if told else human.one_line(self.detail.removeprefix(f"{self.subject}: "), _NOTE)


class Work(NamedTuple):
    """Everything that a routine did. `more` lines stand in a fold, `left_out` are only counted."""

    said: str
    lines: tuple[Line, ...] = ()
    more: tuple[Line, ...] = ()
    left_out: int = 0

    @property
    def has_rows(self) -> bool:
        """Whether any line counts rows."""
        return any(line.rows is not None for line in self.lines + self.more)

    @property
    def has_sizes(self) -> bool:
        """Whether any line knows a size."""
        return any(line.size.text for line in self.lines + self.more)


def work(records: Sequence[ActionRecord], fold: int) -> Work | None:
    """Return a routine's actions in short; None for a few, which are told one by one."""
    lines = [line for record in records for line in lines_of(record)]
    if len(lines) <= FEW:
        return None
    lines.sort(key=_rank)
    shown = tuple(lines[: ROWS + fold])
    return Work(totals(lines), shown[:ROWS], shown[ROWS:], len(lines) - len(shown))


def notable(records: Sequence[ActionRecord]) -> list[ActionRecord]:
    """Return the actions whose evidence is shown in full: all of a few, else a few of those that somebody must see."""
    if sum(1 for record in records for _ in lines_of(record)) <= FEW:
        return list(records)
    wanted = [record for record in records if record.status in ("failed", "", "proposed")]
    return sorted(wanted, key=lambda record: _ORDER.index(record.status))[:FEW]


def lines_of(record: ActionRecord) -> Iterator[Line]:
    """Return the lines of an action: several where it worked on many small things together."""
    what, took = human.label(record.action.name), None
    parts = _named(record.evidence.get("tables"), "table")
    planned = _named(record.action.details.get("tables"), "name") if not record.evidence else []
    if parts:
        for part in parts:
            yield _line(
                what, str(part["table"]), str(part.get("status", record.status)), str(part.get("detail", "")), part
            )
        return
    if planned:
        for part in planned:
            yield _line(what, str(part["name"]), record.status, record.detail, {})
        return
    if record.closed_at and record.status in (OutcomeStatus.DONE, OutcomeStatus.FAILED):
        took = (record.closed_at - record.opened_at).total_seconds()
    line = _line(what, record.action.subject, record.status, record.detail, record.evidence)
    known = [_number(record.action.details.get(key)) for key in ("size_bytes", "bytes")]
    before = line.before if line.before is not None else next((n for n in known if n is not None), None)
    yield line._replace(
        seconds=took if line.seconds is None else line.seconds,
        before=before if not record.evidence else line.before,
        detail=record.detail or record.action.reason,
    )


def totals(lines: Sequence[Line]) -> str:
    """Say how many were done and not done, and what that amounts to, as far as it was counted."""
    counts = Counter(line.status for line in lines)
    words = {"planned": "planned", "proposed": "waiting for approval"}
    ordered = sorted(counts, key=lambda status: (status != OutcomeStatus.DONE, _place(_ORDER, status)))
    said = [f"{counts[status]:,} {words.get(status, outcome_words(status)[0])}" for status in ordered]
    done = [line for line in lines if line.status == OutcomeStatus.DONE]
    rows, pages = _sum(line.rows for line in done), _sum(line.pages for line in done)
    gone = [f"{human.number(n)} {word}" for n, word in ((rows, "rows"), (pages, "pages")) if n]
    freed = sum(line.before - line.after for line in done if line.before is not None and line.after is not None)
    seconds = _sum(line.seconds for line in lines)
    amounts = [
        *([f"{' and '.join(gone)} removed"] if gone else []),
        *([f"{human.size(abs(freed)).text} {'freed' if freed > 0 else 'more than before'}"] if freed else []),
        *([f"{human.duration(seconds).text} of work"] if seconds else []),
    ]
    return "; ".join(filter(None, (", ".join(said), ", ".join(amounts))))


def _line(what: str, subject: str, status: str, detail: str, evidence: Mapping[str, Any]) -> Line:
    report = evidence.get("report")
    report = report if isinstance(report, Mapping) else {}
    before, after = evidence.get("before"), evidence.get("after")
    return Line(
        what=what,
        subject=subject,
        status=status,
        rows=_number(report.get("removed")),
        pages=_number(report.get("pages_removed")),
        before=_size(before) if isinstance(before, Mapping) else _number(evidence.get("bytes_before")),
        after=_size(after) if isinstance(after, Mapping) else _number(evidence.get("bytes_after")),
        seconds=_number(evidence.get("seconds")),
        detail=detail,
    )


def _size(state: Mapping[str, Any]) -> float | None:
    """Return the bytes of a table with all its parts, or of a file."""
    parts = [_number(state.get(name)) for name in _PARTS]
    if any(part is not None for part in parts):
        return sum(part or 0 for part in parts)
    return next((n for n in (_number(state.get(key)) for key in ("bytes", "wal_bytes")) if n is not None), None)


def _rank(line: Line) -> tuple[int, float, float, str]:
    return _place(_ORDER, line.status), -(line.before or 0), -(line.seconds or 0), line.subject


def _place(order: Sequence[str], word: str) -> int:
    return order.index(word) if word in order else len(order)


def _named(parts: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the parts of an action that worked on several things; none where it is not written like that."""
    known = list(parts) if isinstance(parts, (list, tuple)) else []
    return known if all(isinstance(part, Mapping) and key in part for part in known) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) else None


def _sum(numbers: Iterable[float | None]) -> float:
    return sum(number for number in numbers if number is not None)
