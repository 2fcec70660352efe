"""Packages, what is known to be wrong with them, and who answers for what stays as it is."""

from __future__ import annotations

from datetime import date

import pydantic
from pydantic import Field

from upkeep.core.fields import ConnId, Path
from upkeep.core.model import Model


class AdvisorySource(Model):
    """A place with advisories in the OSV format (https://ossf.github.io/osv-schema/): a service, or a folder."""

    url: str | None = Field(None, pattern=r"^https?://[^@]+$", description="service that speaks OSV's API")
    conn_id: ConnId | None = Field(None, description="http connection to such a service, with its credentials")
    folder: Path | None = Field(None, description="folder of OSV files (JSON or YAML), as a mirror keeps them")
    max_age_days: float = Field(7, gt=0, description="a folder whose newest advisory was fetched earlier says nothing")

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> AdvisorySource:
        if sum(place is not None for place in (self.url, self.conn_id, self.folder)) != 1:
            raise ValueError("give exactly one of `url`, `conn_id` and `folder`")
        return self


class Ignore(Model):
    """A known vulnerability that stays for now: who answers for that, why, and until when."""

    advisory: str = Field(min_length=3, description="id or alias (CVE-, GHSA-, PYSEC-)")
    package: str | None = Field(None, description="only in this package; default: in any")
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=10)
    until: date
