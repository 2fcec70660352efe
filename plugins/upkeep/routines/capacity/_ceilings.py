"""What a database may fill, how full it is, and when it will be: the volume, and a limit stated for the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from upkeep.core.job import Disk, Failed
from upkeep.core.model import Finding, Judgement, Measurement, Severity, Threshold
from upkeep.core.targets import PostgresTarget
from upkeep.routines.capacity._seen import Seen, Series
from upkeep.routines.capacity._settings import Settings
from upkeep.routines.capacity._trend import Reached, Trend
from upkeep.routines.database._seen import judged, percent
from upkeep.routines.database._text import byte_size

_ROOM = {
    "volume": "make room: logs and dumps on it, WAL kept by slots, tables that may be archived; or enlarge it",
    "limit": "make room: archive what may be archived, drop unused indexes; or raise `limit_bytes` of"
    " capacity.database",
}


@dataclass(frozen=True)
class Ceiling:
    """Space of `total` bytes of which `used` are gone; `size` is the series that fills it."""

    subject: str
    total: float
    used: float
    size: Series

    @property
    def fill(self) -> float:
        """Percent in use."""
        return 100 * self.used / self.total

    def reaches(self, level: float, days: int) -> Reached:
        """Return when `level` percent are in use, should everything else on the volume stay as it is."""
        assert self.size.trend is not None
        return self.size.trend.reaches(self.size.trend.now + level / 100 * self.total - self.used, days)


def ceilings(target: PostgresTarget, settings: Settings, seen: Seen, sizes: Sequence[Series]) -> list[Ceiling]:
    """Return what is known to bound this database; `sizes` are those of the database and, if known, of all."""
    found = []
    if space := _space(target, seen):
        # All databases of the server fill the volume; its own growth stands in while theirs is not known long enough.
        size = next((s for s in reversed(sizes) if s.trend), sizes[-1])
        found.append(Ceiling("volume", *space, size))
    if settings.limit_bytes:
        found.append(Ceiling("limit", float(settings.limit_bytes), seen.server["bytes"], sizes[0]))
    return found


def _space(target: PostgresTarget, seen: Seen) -> tuple[float, float] | None:
    """Return total and used bytes of the volume. What others put there counts, when the volume can be asked."""
    stated = target.volume.size if target.volume else None
    disk = seen.disk if isinstance(seen.disk, Disk) else None
    total = stated or (disk.total if disk else None)
    if not total:
        return None
    own = seen.server["server_bytes"] + (seen.server["wal_bytes"] or 0)
    return float(total), float(disk.total - disk.free if disk else own)


def judge(settings: Settings, seen: Seen, bounds: Sequence[Ceiling], limits: Threshold, growth: str) -> Judgement:
    """Judge every ceiling by its fill and by the date at which it will be full.

    :param growth: which tables grow, in words.
    """
    judgement = Judgement()
    for bound in bounds:
        judgement += Judgement(measurements=tuple(_filled(bound)), findings=_full(bound, limits))
        if trend := bound.size.trend:
            judgement += _projected(bound, trend, settings, seen, limits=limits, growth=growth)
    return judgement


def unknown(target: PostgresTarget, settings: Settings, seen: Seen) -> list[Finding]:
    """Return what keeps the volume from being known."""
    cure = (
        f"in the system's YAML give target {target.id.split('/')[-1]} `volume: {{path: /folder/on/the/volume}}` where"
        " a worker sees it, else `volume: {size: 500 GB}`; or set `limit_bytes` of capacity.database"
    )
    if isinstance(seen.disk, Failed):
        return [_unknown(f"the volume cannot be looked at: {seen.disk.message}", cure)]
    if target.volume is None and settings.limit_bytes is None:
        return [_unknown("nobody has said how large the volume of this database is, nor what it may grow to", cure)]
    return []


def _unknown(message: str, cure: str) -> Finding:
    return Finding(check="volume", subject="", severity=Severity.UNKNOWN, message=message, hint=cure)


def _filled(bound: Ceiling) -> Iterator[Measurement]:
    yield Measurement(name="space.total", value=bound.total, unit="bytes", subject=bound.subject)
    yield Measurement(name="space.used", value=bound.used, unit="bytes", subject=bound.subject)
    yield Measurement(name="used_percent", value=bound.fill, unit="%", subject=bound.subject)


def _full(bound: Ceiling, limits: Threshold) -> tuple[Finding, ...]:
    return judged(
        "fill",
        bound.subject,
        limits,
        bound.fill,
        message=f"{bound.fill:.1f} % of the {bound.subject} of {byte_size(bound.total)} are in use,"
        f" {byte_size(bound.total - bound.used)} are left",
        hint=_ROOM[bound.subject],
        say=percent,
    )


def _projected(
    bound: Ceiling, trend: Trend, settings: Settings, seen: Seen, *, limits: Threshold, growth: str
) -> Judgement:
    levels = [level for level in (limits.info, limits.warning, limits.critical) if level is not None]
    dates = {level: bound.reaches(level, settings.horizon_days) for level in levels}
    numbers = tuple(
        Measurement(name=f"projection.{name}", value=days, unit="days", subject=f"{bound.subject} {level:g} %")
        for level, reached in dates.items()
        for name, days in reached._asdict().items()
        if days is not None
    )
    findings: tuple[Finding, ...] = ()
    if levels and bound.fill <= levels[-1]:
        findings += _due(bound, dates, settings, f"{_outlook(bound, trend, dates, settings, seen)}{growth}")
    if levels and settings.review:
        findings += (_review(bound, trend, dates, settings, seen, growth=growth),)
    return Judgement(measurements=numbers, findings=findings)


def _due(bound: Ceiling, dates: dict[float, Reached], settings: Settings, message: str) -> tuple[Finding, ...]:
    """Judge the likely date of the highest limit.

    The earliest date is shown and does not judge: while little is known it would always be near.
    """
    days = dates[max(dates)].likely
    return judged(
        "projection",
        bound.subject,
        Threshold(warning=settings.warn_days, critical=settings.critical_days, direction="below"),
        settings.horizon_days + 1 if days is None else days,
        message=message,
        hint="enlarge it before the earliest date, or stop what grows: archive or partition, drop unused indexes",
        say="{:.0f} days".format,
    )


def _outlook(bound: Ceiling, trend: Trend, dates: dict[float, Reached], settings: Settings, seen: Seen) -> str:
    growing = (
        f"{bound.subject} of {byte_size(bound.total)}, {bound.fill:.1f} % in use: {bound.size.what} grows by"
        f" {byte_size(trend.slope)} a day ({byte_size(trend.low)} to {byte_size(trend.high)}, {settings.confidence:g} %"
        f" confidence, {len(bound.size.points)} points over {bound.size.days:.0f} days)"
    )
    end = seen.day(settings.horizon_days)
    return "; ".join([growing, *(f"{level:g} % {_when(dates[level], seen, end)}" for level in dates)])


def _when(reached: Reached, seen: Seen, end: str) -> str:
    if reached.likely == 0:
        return "is reached"
    if reached.earliest is None:
        return f"not before {end}"
    likely, latest = (f"after {end}" if days is None else seen.day(days) for days in (reached.likely, reached.latest))
    return f"likely {likely} (earliest {seen.day(reached.earliest)}, latest {latest})"


def _review(
    bound: Ceiling, trend: Trend, dates: dict[float, Reached], settings: Settings, seen: Seen, *, growth: str
) -> Finding:
    """Recommend what keeps the band's upper edge below the first limit up to the horizon."""
    level = min(dates)
    most = bound.used + trend.after(settings.horizon_days).high - trend.now
    wanted, end = most / level * 100, seen.day(settings.horizon_days)
    if wanted <= bound.total:
        advice = f"recommended: leave it; up to {end} no more than {100 * most / bound.total:.0f} % will be in use"
    else:
        # By the earliest date of the next limit: the first one only says that it is time to plan.
        by = next((r.earliest for lv, r in sorted(dates.items()) if lv > level and r.earliest is not None), None)
        advice = (
            f"recommended: {byte_size(wanted)} ({byte_size(wanted - bound.total)} more) by"
            f" {end if by is None else seen.day(by)}, to stay below {level:g} % up to {end}"
        )
    return Finding(
        check="review",
        subject=bound.subject,
        severity=Severity.INFO,
        message=f"{advice}. {_outlook(bound, trend, dates, settings, seen)}{growth}",
        observed=byte_size(bound.used),
        limit=byte_size(bound.total),
        hint="decide on it and note the decision; archiving what grows may be cheaper than space",
    )
