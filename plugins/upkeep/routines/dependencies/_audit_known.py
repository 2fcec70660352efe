"""Vulnerabilities as they are remembered from run to run: when each was first seen, and since when it can be fixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from upkeep.core.audit import Rating, Vulnerability
from upkeep.core.dependencies import Ignore
from upkeep.core.job import History
from upkeep.core.model import Measurement
from upkeep.routines.dependencies._audit_settings import Settings

FIRST_SEEN = "vulnerability.first_seen"
FIXABLE_SINCE = "vulnerability.fixable_since"


@dataclass(frozen=True)
class Known:
    """One vulnerability of one package in all its places, with what memory and policy say of it."""

    subject: str
    places: tuple[Vulnerability, ...]
    rating: Rating
    first_seen: datetime
    fixable_since: datetime | None
    due: datetime
    new: bool
    newly_fixable: bool
    overdue: bool
    ignored: Ignore | None

    @property
    def worst(self) -> Vulnerability:
        """The place that stands for all of them."""
        return self.places[0]

    @property
    def pages(self) -> bool:
        """Whether somebody must hear of it now."""
        return self.ignored is None and (self.new or self.newly_fixable or self.overdue)


def recall(
    found: Iterable[Vulnerability],
    *,
    history: History,
    settings: Settings,
    ignores: Sequence[Ignore],
    prefixed: bool,
    now: datetime,
    today: date,
) -> tuple[Known, ...]:
    """Put the places of each vulnerability together and add what is remembered of it.

    :param prefixed: whether packages of several ecosystems stand side by side, and names need theirs.
    :param today: the day by which an ignore is in force, in the system's time zone.
    """
    seen, fixable = history.latest(FIRST_SEEN), history.latest(FIXABLE_SINCE)
    grouped: dict[str, list[Vulnerability]] = {}
    for one in found:
        grouped.setdefault(_subject(one, one.id, prefixed), []).append(one)
    recent = timedelta(hours=settings.new_hours)
    known = []
    for subject, places in grouped.items():
        names = {_subject(one, name, prefixed) for one in places for name in one.names}
        # A clock that was ahead must not make it new for as long as it was.
        first = min(now, _earliest(seen[name].value for name in names if name in seen) or now)
        fixed = all(one.fixed for one in places)
        since = _earliest(fixable[name].value for name in names if name in fixable) or (now if fixed else None)
        rating = settings.treated(places[0].rating)
        due = first + settings.due_days.of(rating)
        known.append(
            Known(
                subject=subject,
                places=tuple(places),
                rating=rating,
                first_seen=first,
                fixable_since=since,
                due=due,
                new=now - first < recent,
                newly_fixable=since is not None and fixed and now - since < recent and first < since,
                overdue=now > due,
                ignored=next((i for i in ignores if i.until >= today and concerns(i, places)), None),
            )
        )
    return tuple(known)


def concerns(ignore: Ignore, places: Sequence[Vulnerability]) -> bool:
    """Tell whether an ignore is about a vulnerability, by any of its names, and about this package."""
    wanted = ignore.advisory.casefold()
    return any(
        wanted in {name.casefold() for name in one.names}
        and (
            ignore.package is None
            or plain(ignore.package) in {plain(one.package.name), plain(one.package.source_package)}
        )
        for one in places
    )


def remembered(known: Iterable[Known]) -> Iterable[Measurement]:
    """Yield what the next run must know, as seconds since 1970."""
    for one in known:
        yield Measurement(name=FIRST_SEEN, value=one.first_seen.timestamp(), unit="s", subject=one.subject)
        if one.fixable_since:
            yield Measurement(name=FIXABLE_SINCE, value=one.fixable_since.timestamp(), unit="s", subject=one.subject)


def _subject(one: Vulnerability, name: str, prefixed: bool) -> str:
    """Return what a vulnerability is remembered by: package and advisory, no version.

    Of Debian it is the source package: one fault in it is one finding, however many packages are built from it.
    """
    ecosystem = one.package.ecosystem.partition(":")[0].lower()
    return f"{f'{ecosystem}:' if prefixed else ''}{one.package.source_package or one.package.name} {name}"


def _earliest(values: Iterable[float]) -> datetime | None:
    first = min(values, default=None)
    return None if first is None else datetime.fromtimestamp(first, UTC)


def plain(name: str) -> str:
    """Return a package's name as people who write it in other ways mean it."""
    return name.casefold().replace("_", "-").replace(".", "-")
