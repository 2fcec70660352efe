"""The catalogue of backups: what the ledger knows of each, whatever lies in the store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from upkeep.core.backup import Kind, Tier
from upkeep.core.model import Model


class Entry(Model):
    """One backup on record. Moments are None, and booleans too, where nothing is known."""

    target: str
    kind: Kind
    id: str
    location: str
    finished: datetime
    tier: Tier = "daily"
    parent: str | None = None
    key_id: str = ""
    size_bytes: int = 0
    manifest_sha256: str = ""
    content_sha256: str = ""
    verified_at: datetime | None = None
    verified_ok: bool | None = None
    tested_at: datetime | None = None
    tested_ok: bool | None = None
    removed_at: datetime | None = None

    @property
    def proved(self) -> bool:
        """Whether its last verification, and its last restore test where there was one, found it whole."""
        return (self.verified_ok is True or self.tested_ok is True) and False not in (self.verified_ok, self.tested_ok)

    @property
    def suspicious(self) -> bool:
        """Whether the last look at it found something wrong."""
        return self.verified_ok is False or self.tested_ok is False


class Catalogue(Protocol):
    """Reads and completes the catalogue; see `ledger.catalogue`."""

    @property
    def reachable(self) -> bool:
        """Whether the ledger answers. While it does not, nothing is known of any backup, and none may be removed."""
        ...

    def entries(self, target: str, kind: Kind) -> tuple[Entry, ...]:
        """Return the backups of a series that are on record, newest first, removed ones included."""
        ...

    def learn(self, entries: Iterable[Entry]) -> int:
        """Put backups that are in the store and not on record there; return how many were new.

        Nothing that is on record is overwritten by less.
        """
        ...
