"""Settings of `model.drift`."""

from __future__ import annotations

from pydantic import Field

from upkeep.core.model import Threshold
from upkeep.core.routine import RoutineSettings


class Settings(RoutineSettings):
    """From when on data count as changed. A change of distribution must be large and significant, both."""

    min_rows: int = Field(200, ge=30, le=1_000_000, description="rows of the window below which nothing is known")
    # Not 0.05: of runs without any drift, up to this share raises an alarm, and a week has many models.
    alpha: float = Field(
        0.02, gt=0, lt=0.5, description="share of false alarms (Benjamini-Hochberg, over all tests of a run)"
    )
    # 0.1 and 0.2: Siddiqi, Credit risk scorecards (2006). Raised to what chance brings about; see docs/decisions/0016.
    psi: Threshold = Field(Threshold(warning=0.1, critical=0.2), description="population stability index")
    ks: Threshold = Field(Threshold(warning=0.1), description="largest distance of the distribution functions, 0 to 1")
    wasserstein: Threshold = Field(
        Threshold(warning=0.1), description="Wasserstein distance in standard deviations of the profile"
    )
    jensen_shannon: Threshold = Field(Threshold(warning=0.1), description="Jensen-Shannon distance, natural logarithm")
    missing: Threshold = Field(
        Threshold(warning=5, critical=50), description="missing values: percentage points more or less than before"
    )
    infinite: Threshold = Field(Threshold(warning=0.1), description="infinite numbers: percentage points")
    outliers: Threshold = Field(
        Threshold(warning=1), description="numbers beyond three interquartile ranges: percentage points"
    )
    new_categories: Threshold = Field(
        Threshold(warning=0.5), description="percent of rows with categories that the profile does not know"
    )
    vanished_categories: Threshold = Field(
        Threshold(warning=0.5), description="percent of the profile's rows whose categories do not occur any more"
    )
    type: Threshold = Field(
        Threshold(warning=0), description="percent of rows with values of another type than in the profile"
    )
    lost_rows: Threshold = Field(
        Threshold(info=0, warning=1), description="percent of rows that are broken or have no time"
    )
    ignore: tuple[str, ...] = Field((), description="columns that are meant to change (a date, a version)")
    statement_timeout: float = Field(300, ge=1, le=7200, description="seconds for the query of the scoring data")
