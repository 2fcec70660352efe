"""Settings of the dependency audit."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from upkeep.core.audit import Limits, Rating
from upkeep.core.dependencies import AdvisorySource
from upkeep.core.model import Model
from upkeep.core.routine import RoutineSettings


class DueDays(Model):
    """Days from the first sighting until it must be gone, by severity. Ours: no guide gives any."""

    critical: float = Field(7, gt=0)
    high: float = Field(30, gt=0)
    medium: float = Field(90, gt=0)
    low: float = Field(180, gt=0)

    def of(self, rating: Rating) -> timedelta:
        """Return how long one of a rating may stay; `rating` is not unknown."""
        return timedelta(days=float(getattr(self, rating.value)))


class Settings(RoutineSettings):
    """Where to look things up, and when to call somebody."""

    advisories: tuple[AdvisorySource, ...] = Field((), description="sources for targets that name none themselves")
    markers: dict[str, str] = Field(
        {},
        description="PEP 508 variables of the environment meant (python_version ...); empty: every marked line counts",
    )
    own: tuple[str, ...] = Field((), description="packages of our own, of which no advisory can tell")
    due_days: DueDays = Field(DueDays(), description="days from the first sighting, by severity")
    # Research and CM-Q01 ("npm audit at high level"): critical and high fail, the others warn.
    fatal: tuple[Rating, ...] = Field(
        (Rating.CRITICAL, Rating.HIGH),
        description="severities of which a new, newly fixable or overdue one is critical",
    )
    unknown_as: Rating = Field(Rating.HIGH, description="how one is treated whose severity no source gives")
    new_hours: float = Field(
        24, gt=0, le=720, description="hours for which it counts as new, so that a retry pages too"
    )
    request_seconds: float = Field(20, gt=0, le=300, description="seconds for one answer of a service")
    source_seconds: float = Field(300, gt=0, le=3600, description="seconds for all answers of a service")
    content_age_days: float = Field(
        90,
        gt=0,
        description="days since the youngest advisory of a folder was changed: more is a copy of an old mirror",
    )
    cross_check: bool = Field(False, description="have pip-audit look Python packages up too (needs a source by `url`)")
    keep_bill: bool = Field(True, description="keep the bill of materials (CycloneDX) when something changed")

    @property
    def limits(self) -> Limits:
        """What the auditor is told."""
        return Limits(
            markers=self.markers,
            own=self.own,
            request_seconds=self.request_seconds,
            source_seconds=self.source_seconds,
            content_age_days=self.content_age_days,
        )

    def treated(self, rating: Rating) -> Rating:
        """Return the severity that counts: what nobody has rated is not harmless."""
        return self.unknown_as if rating is Rating.UNKNOWN else rating
