"""Physical backups of PostgreSQL: how to make one, and whether the next is full or incremental."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, Protocol

from pydantic import Field

from upkeep.core.backup import Database, Kept, PhysicalManifest, Place, Say, Source, Tier
from upkeep.core.model import Model, Severity

SERVER_MANIFEST = "backup_manifest"
# The first version whose servers keep summaries of what was written: without them nothing can be incremental.
INCREMENTAL_FROM = 170_000
# What a manifest's `settings` hold beside options: files with damaged pages, and why a backup is full after all.
DAMAGED, FULL_BECAUSE = "damaged", "full_because"
_SWITCH_ON = "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();"


class PhysicalOptions(Model):
    """How to take the files of a cluster."""

    tier: Tier = "daily"
    parent: str | None = Field(None, description="id of the backup that this one is incremental to")
    compression_level: int = 3
    jobs: int = Field(2, description="threads that compress")
    upload_jobs: int = 4
    piece_bytes: int = Field(64 << 20, description="stored bytes of one file of the backup, roughly")
    max_rate: int = Field(0, description="kB a second that the server may be asked for; 0: as fast as it goes")
    checkpoint: Literal["fast", "spread"] = "fast"
    programs: str = ""


class Cluster(Model):
    """What the server says before a backup. `source.size_bytes` is that of all databases that the role may look at."""

    source: Source
    timeline: int
    checksums: bool = Field(description="whether pages carry checksums")
    summarizes: bool = Field(description="whether summarize_wal is on (17 on)")
    slots_free: int
    page_failures: int = Field(description="damaged pages that the server has met since its statistics were reset")


class Decision(Model):
    """Whether the next backup is full (`parent` None) and why. `severity`: how much somebody should care."""

    parent: str | None
    reason: str
    severity: Severity = Severity.OK
    hint: str = ""


class Frequency(Model):
    """When a full backup is due although an incremental one would do."""

    days: float
    incrementals: int


def decide(
    cluster: Cluster, chain: Sequence[PhysicalManifest], broken: str, frequency: Frequency, *, tier: Tier, now: datetime
) -> Decision:
    """Decide between a full and an incremental backup.

    :param chain: the newest backup and those it depends on, newest first; empty: there is none.
    :param broken: why the newest backup cannot be built upon; empty: it can.
    """
    if cluster.source.version_num < INCREMENTAL_FROM:
        return Decision(parent=None, reason="PostgreSQL makes incremental backups from version 17 on")
    if tier == "quarterly" or frequency.incrementals == 0:
        return Decision(parent=None, reason="a full backup is what is wanted")
    if broken:
        hint = "verify the stored backups (backup.verify) and look at who writes to the store"
        return Decision(parent=None, reason=f"the newest backup: {broken}", severity=Severity.WARNING, hint=hint)
    if not cluster.summarizes:
        return _unsummarized(chain)
    if not chain:
        return Decision(parent=None, reason="it is the first")
    return (
        _strangers(cluster, chain[0])
        or _due(chain, frequency, now)
        or Decision(parent=chain[0].id, reason=f"what changed since {chain[0].id}")
    )


def _unsummarized(chain: Sequence[PhysicalManifest]) -> Decision:
    # That it was on before and is off now is news; that a site never switched it on is its choice.
    severity = Severity.WARNING if any(m.parent for m in chain) else Severity.INFO
    return Decision(
        parent=None,
        reason="summarize_wal is off, so the server does not know what changed",
        severity=severity,
        hint=f"for incremental backups: {_SWITCH_ON}",
    )


def _strangers(cluster: Cluster, newest: PhysicalManifest) -> Decision | None:
    """Refuse to build upon the backup of another cluster or another history of it."""
    before, now = newest.source.system_identifier, cluster.source.system_identifier
    if before != now:
        return Decision(
            parent=None,
            reason=f"the newest backup is of cluster {before}, this is cluster {now}",
            severity=Severity.WARNING,
            hint="was the server made anew or the connection changed? If it was meant, nothing is to be done",
        )
    if newest.timeline != cluster.timeline:
        seen = f"the newest backup is of timeline {newest.timeline}, the server is on {cluster.timeline}"
        return Decision(parent=None, reason=seen, severity=Severity.INFO, hint="a standby was promoted or a PITR done")
    return None


def _due(chain: Sequence[PhysicalManifest], frequency: Frequency, now: datetime) -> Decision | None:
    if any(m.settings.get(DAMAGED) for m in chain):
        return Decision(parent=None, reason="an earlier one met damaged pages; a full one looks at every page again")
    age = now - chain[-1].started
    if age >= timedelta(days=frequency.days):
        return Decision(parent=None, reason=f"the last full one is {age.total_seconds() / 86400:.1f} days old")
    if len(chain) > frequency.incrementals:
        return Decision(parent=None, reason=f"{len(chain) - 1} incremental ones have followed the last full one")
    return None


class Physical(Protocol):
    """Takes the files of a cluster; see `adapters.physical`. Every method raises `UpkeepError`s."""

    def look(self, database: Database, programs: str) -> Cluster:
        """Ask the server who it is and whether it would let itself be copied.

        :raises ConfigurationError: something is missing; the message names all of it, the hint each cure.
        """
        ...

    def chain(self, place: Place, backup_id: str) -> tuple[PhysicalManifest, ...]:
        """Return the manifests of a backup and of all that it depends on, newest first.

        :raises DamagedError: one of them is missing or altered.
        """
        ...

    def backup(
        self, database: Database, place: Place, options: PhysicalOptions, run_id: str, say: Say
    ) -> Kept[PhysicalManifest]:
        """Make a backup; one that cannot be incremental becomes a full one, and `settings` tells why."""
        ...
