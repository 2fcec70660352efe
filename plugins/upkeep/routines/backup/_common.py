"""What the routines about backups share: where backups go, how numbers are written, progress in the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from upkeep.core.backup import Archiver, BaseManifest, Database, Kept, Kind, Place, Progress
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.system import PostgresTarget


def archiver(job: Job[Any, Any]) -> Archiver:
    """Return the worker's archiver."""
    found: Archiver = job.tools.archive
    return found


def place(job: Job[Any, Any], kind: Kind = "dump") -> Place:
    """Return where the target's backups of a kind lie.

    :raises ConfigurationError: neither target nor system names a store.
    """
    store = job.target.store or job.system.store
    if store is None:
        raise ConfigurationError(
            f"{job.target.id}: no store for backups, neither on the target nor on system {job.system.name}",
            "add `store: {url: s3://bucket/prefix, conn_id: ...}` to the system file, or skip "
            f"{job.routine} for this target, with the reason",
        )
    return Place(store=store, target=job.target.id, kind=kind)


def evidence(kept: Kept[Any], source_bytes: int | None, **more: Any) -> dict[str, Any]:
    """Return what the catalogue keeps of a backup of any kind; `more` is what only some kinds have."""
    manifest: BaseManifest = kept.manifest
    return {
        "id": manifest.id,
        "kind": manifest.kind,
        "tier": manifest.tier,
        "parent": manifest.parent,
        "key_id": manifest.key_id,
        "location": kept.location,
        "manifest_sha256": kept.manifest_sha256,
        "content_sha256": manifest.content_sha256,
        "size_bytes": manifest.size_bytes,
        "source_bytes": source_bytes,
        "files": len(manifest.files),
        "started": manifest.started.isoformat(),
        "finished": manifest.finished.isoformat(),
        **more,
    }


def database(job: Job[PostgresTarget, Any]) -> Database:
    """Return the database to dump."""
    return Database(conn_id=job.target.backup_conn_id or job.target.conn_id, database=job.target.database)


def size(count: float) -> str:
    """Write a number of bytes for people.

    >>> size(123), size(45_600_000), size(2.5e9)
    ('123 B', '45.6 MB', '2.5 GB')
    """
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Write a number of seconds for people.

    >>> duration(4.25), duration(150), duration(7300)
    ('4.2 s', '2 min 30 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def line(progress: Progress) -> str:
    """Write progress in one line: what is done of what, rate, time left."""
    share = min(progress.bytes_done / progress.bytes_total, 1.0) if progress.bytes_total else 0.0
    rate = f"{size(progress.bytes_done / progress.seconds)}/s" if progress.seconds else "-"
    left = (
        f"about {duration(progress.seconds * (1 - share) / share)} left" if 0 < share < 1 else "time left not known yet"
    )
    counts = {
        "dump": f"dump: {progress.done} of {progress.total} tables, {progress.proved} fingerprints",
        "upload": f"upload: {progress.done} of {progress.total} tables, {progress.proved} fingerprints",
        "read": f"read: {progress.done} of {progress.total} files",
        "decode": f"decode: {progress.total} tables",
    }
    stored = f", {size(progress.stored_bytes)} stored" if progress.stored_bytes else ""
    return (
        f"{counts[progress.phase]}; {size(progress.bytes_done)} of {size(progress.bytes_total)}{stored};"
        f" {rate}, {left if share < 1 else 'nearly done'}"
    )


class Reporter:
    """Writes progress to the task's log: at the start of each phase and then every so often."""

    def __init__(self, say: Callable[[str], None], now: Callable[[], datetime], every_seconds: float) -> None:
        self._say, self._now, self._every = say, now, timedelta(seconds=every_seconds)
        self._phase, self._last = "", now()

    def __call__(self, progress: Progress) -> None:
        """Take note of progress; tell it when it is time."""
        if progress.phase == self._phase and self._now() - self._last < self._every:
            return
        self._phase, self._last = progress.phase, self._now()
        self._say(line(progress))
