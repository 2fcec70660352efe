"""The maintenance log that teams sign, in Markdown, in the shape of their guides' template."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from typing import Any

from upkeep.core.model import Measurement, Severity, worst
from upkeep.ledger.record import ActionRecord, RoutineRecord, RunRecord
from upkeep.report import human
from upkeep.report.approvals import Approval, approvals
from upkeep.report.attention import Item, grouped, needs_human
from upkeep.report.extras import Extras
from upkeep.report.headline import Headline, is_dry
from upkeep.report.sections import status
from upkeep.report.work import notable, work

# Underscores inside a word are plain text in Markdown, and a log full of `\_` is hard to read.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&#!]|(?<!\w)_++|_++(?!\w)|(?<=:)//|(?<=\bwww)\.")
# A log that nobody reads to its end is signed unread.
_ISSUES = 100
# Which measurements answer the template's questions, by the beginning of their name, in percent or as a ratio.
_STATUS = (
    ("CPU Usage", ("cpu",)),
    ("Memory Usage", ("memory",)),
    ("Disk Usage", ("disk", "volume", "filesystem")),
    ("Error Rate", ("error_rate",)),
)


def escape(value: Any) -> str:
    """Return foreign text as one line that Markdown shows as it is: no markup, no HTML, no links.

    >>> escape("a*b* <script> [x](http://y) snake_case _it_")
    'a\\\\*b\\\\* &lt;script&gt; \\\\[x\\\\](http:&#47;&#47;y) snake_case \\\\_it\\\\_'
    """
    text = inline(value)
    # At the beginning of an entry these would begin a list of their own.
    return re.sub(r"^(\d{1,9}(?=[.)])|)([-+=.)])", r"\1\\\2", text)


def inline(value: Any) -> str:
    """Return foreign text escaped for the middle of a line."""
    return _MARKUP.sub(lambda m: _ENTITIES.get(m[0]) or re.sub("(.)", r"\\\1", m[0]), human.one_line(value))


def code(value: Any) -> str:
    """Return foreign text as a code span on one line, whatever backticks it holds.

    >>> code('public."a`b"')
    '``public."a`b"``'
    """
    text = human.one_line(value) or "(no name)"
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(text: str, language: str = "", most: int = 400) -> list[str]:
    """Return foreign text of several lines as a fenced block, whatever it holds; says so when it is cut."""
    lines = [
        human.one_line(line) if not line.startswith((" ", "\t")) else _indented(line) for line in text.splitlines()
    ]
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    cut = [f"... {len(lines) - most} more lines"] if len(lines) > most else []
    return [f"{fence}{language}", *lines[:most], *cut, fence]


def _indented(line: str) -> str:
    bare = line.lstrip(" \t")
    return line[: len(line) - len(bare)].replace("\t", "    ") + human.one_line(bare)


_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "//": "&#47;&#47;", ".": "&#46;"}


def maintenance_log(record: RunRecord, head: Headline, items: Sequence[Item], extras: Extras) -> str:
    """Return the log. What is not known stays `unknown`; the sign-off is left to people."""
    asked = list(approvals(record, extras))
    blocks: dict[str, Iterable[str]] = {
        "Basic Information": _basics(record, head, extras),
        "Tasks Performed": _tasks(record),
        **({"Approvals": _approvals(asked)} if asked else {}),
        "Issues Encountered": _issues(items) if items else ("- None",),
        "System Status": _system_status(record),
        "Next Steps": _next_steps(items),
        "Sign-off": ("- Maintainer: ", "- Reviewer: ", "- Date: "),
    }
    body = "\n\n".join("\n".join((f"## {title}", *lines)) for title, lines in blocks.items())
    return f"# Maintenance Log\n\n{body}\n"


def _basics(record: RunRecord, head: Headline, extras: Extras) -> Iterator[str]:
    began = (record.opened_at or extras.now).astimezone(UTC)
    ended = record.closed.at if record.closed else extras.now
    yield f"- Date: {began:%Y-%m-%d}"
    yield f"- Time: {began:%H:%M} UTC"
    yield f"- Maintainer: Airflow, {escape(record.run.dag_id)}, run {escape(record.run.run_id)}"
    yield f"- Type: {'Emergency' if record.run.dag_id.startswith('emergency') else 'Routine'}"
    yield f"- Duration: {human.duration((ended - began).total_seconds()).text if record.opened_at else 'unknown'}"
    if record.window_end:
        start = f"{record.window_start.astimezone(UTC):%Y-%m-%d %H:%M}" if record.window_start else "unknown"
        yield f"- Window: {start} to {record.window_end.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    yield f"- Status: {_completeness(record)}"
    yield f"- Verdict: {escape(head.text)} ({escape(', '.join([*(word for _, word in head.counts), head.scope]))})"
    if is_dry(record):
        yield "- Dry run: nothing was changed"
    if extras.ledger_away:
        yield f"- Ledger: away ({escape(extras.ledger_away)})"


def _completeness(record: RunRecord) -> str:
    """Return completed, partial or failed: whether the work was done, not whether all is well."""
    good = sum(routine.state == "success" or _only_found(routine) for routine in record.routines)
    bad = len(record.missing) + sum(r.state in ("failed", "retry") and not _only_found(r) for r in record.routines)
    if not good:
        return "failed" if bad or not record.expected else "completed"
    return "partial" if bad else "completed"


def _only_found(routine: RoutineRecord) -> bool:
    """Tell whether a routine did its work and failed only because of what it found."""
    return routine.state == "failed" and not routine.reason and bool(routine.findings)


def _tasks(record: RunRecord) -> Iterator[str]:
    known = {(r.key.routine, r.key.target) for r in record.routines}
    bare = [item for item in record.expected if (item.routine, item.target) not in known]
    entries = [
        *(_task(routine) for routine in record.routines),
        *((i.routine, i.target, "Failed", "no result: it never began") for i in bare if not i.skip),
        *((i.routine, i.target, "Skipped", i.skip) for i in bare if i.skip),
    ]
    for number, (title, target, state, notes) in enumerate(entries, 1):
        yield f"{number}. {escape(title)}: {escape(target)}"
        yield f"   - Status: {state}"
        yield f"   - Notes: {escape(notes) or 'none'}"
    if not entries:
        yield "None: the run looked at no target."


def _task(routine: RoutineRecord) -> tuple[str, str, str, str]:
    word, severity = status(routine)
    done = routine.state == "success" or _only_found(routine)
    state = "Skipped" if routine.state == "skipped" else "Completed" if done else "Failed"
    notes = [f"{word}: {routine.reason}" if routine.reason else word if not done else f"result: {severity}"]
    if routine.seconds is not None:
        notes.append(f"took {human.duration(routine.seconds).text}")
    if routine.key.try_number > 1:
        notes.append(f"try {routine.key.try_number}")
    if routine.findings:
        notes.append(human.plural(len(routine.findings), "finding"))
    return routine.title, routine.key.target, state, "; ".join([*notes, *_actions(routine)])


def _actions(routine: RoutineRecord) -> Iterator[str]:
    """Tell a few actions one by one; of many the totals, and a few of those that somebody must see."""
    if many := work(routine.actions, 0):
        yield many.said
    yield from map(_action, notable(routine.actions))


def _action(done: ActionRecord) -> str:
    state = {"": "begun, never closed", "proposed": "needs approval, not done"}.get(done.status, done.status)
    undo = f" (undo: {done.action.undo})" if done.action.undo else ""
    return f"{done.action.name} {done.action.subject}: {state}{', ' + done.detail if done.detail else ''}{undo}"


def _approvals(asked: Iterable[Approval]) -> Iterator[str]:
    for one in asked:
        yield f"- {escape(one.word)}: {escape(one.heading)}: {escape(one.detail)}"
        for change in one.changes:
            yield f"  - {escape(change)}"


def _issues(items: Iterable[Item]) -> Iterator[str]:
    found = grouped(items)
    for item in found[:_ISSUES]:
        limits = f" (seen {item.observed}, limit {item.limit})" if item.limit else ""
        since = f"; {item.since.text}" if item.since.text else ""
        yield f"- {item.severity}: {escape(item.places)}: {escape(item.message + limits + since)}"
        yield "  - Resolution: none by this run"
        yield f"  - Follow-up: {'Required' if needs_human(item) else 'Not Required'}"
    if left := found[_ISSUES:]:
        yield f"- and {len(left):,} more, none worse than {left[0].severity}: see the ledger"


def _system_status(record: RunRecord) -> Iterator[str]:
    for title, names in _STATUS:
        yield f"- {title}: {_highest(record, names)}"
    said: dict[str, Severity | None] = dict.fromkeys(sorted({item.system for item in record.expected}))
    looked = [(r.system, status(r)[1]) for r in record.routines if r.state != "skipped"]
    for system, severity in [*looked, *((item.system, Severity.CRITICAL) for item in record.missing)]:
        said[system] = worst((said.get(system) or Severity.OK, severity))
    for system, known in said.items():
        yield f"- {escape(system)}: {known or 'unknown (nothing was looked at)'}"


def _highest(record: RunRecord, names: tuple[str, ...]) -> str:
    found: list[tuple[float, Measurement, RoutineRecord]] = [
        (m.value * 100 if m.unit in ("1", "ratio") else m.value, m, routine)
        for routine in record.routines
        for m in routine.measurements
        if m.name.startswith(names) and m.unit in ("%", "percent", "1", "ratio")
    ]
    if not found:
        return "unknown (not measured in this run)"
    value, measured, routine = max(found, key=lambda entry: entry[0])
    place = " ".join(filter(None, (routine.key.target, measured.subject)))
    return f"{human.percent(value).text} (highest of {len(found)}: {escape(place)})"


def _next_steps(items: Iterable[Item]) -> Iterator[str]:
    urgent = grouped(item for item in items if needs_human(item))
    steps = list(
        dict.fromkeys(f"- {escape(item.places)}: {escape(item.hint or 'find out: ' + item.message)}" for item in urgent)
    )
    yield from steps[:_ISSUES] or ("- None",)
    if len(steps) > _ISSUES:
        yield f"- and {len(steps) - _ISSUES:,} more: see the ledger"
