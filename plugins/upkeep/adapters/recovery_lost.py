"""What would have been lost: what the source holds that the backup does not, as far as the source tells."""

from __future__ import annotations

import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from upkeep.adapters import tree_scan
from upkeep.adapters.backup_snapshot import conninfo_of
from upkeep.adapters.postgres import Session, open_session
from upkeep.core.backup import AnyManifest, Manifest
from upkeep.core.errors import UpkeepError
from upkeep.core.recovery import Part
from upkeep.core.tree import FileSet

_UNKNOWN = "unknown what has changed since"


def lost(conninfo: Callable[[str], str], part: Part, manifest: AnyManifest) -> tuple[str, int | None]:
    """Return in words what came after a backup, and how much of it; None: nobody can tell. The source is only read."""
    try:
        if isinstance(manifest, Manifest) and part.source:
            return _rows(conninfo_of(conninfo, part.source), manifest)
        if part.paths:
            return _files(part.paths, manifest.started.timestamp())
    except (UpkeepError, OSError) as error:
        said = error.message if isinstance(error, UpkeepError) else f"{type(error).__name__}"
        return f"{_UNKNOWN}: the source does not answer: {said}", None
    return f"{_UNKNOWN}: this kind of source does not tell", None


def _rows(conninfo: str, manifest: Manifest) -> tuple[str, int | None]:
    with open_session(conninfo, application_name="upkeep recovery test", kind=Session) as session:
        now = session.rows("recovery/content")[0]
    reset = now["counted_since"]
    if now["writes"] < manifest.writes or (reset is not None and reset > manifest.source.snapshot_time):
        return f"{_UNKNOWN}: the server's counters were reset meanwhile", None
    count = int(now["writes"]) - manifest.writes
    return f"at least {count} rows written since", count


def _files(paths: tuple[str, ...], since: float) -> tuple[str, int | None]:
    count = 0
    if len(paths) == 1 and Path(paths[0]).is_file():
        count = int(Path(paths[0]).stat().st_mtime >= since)
    else:
        for found in tree_scan.scan(FileSet(paths=paths)).found:
            with suppress(OSError):
                count += stat.S_ISREG(found.stat.st_mode) and found.stat.st_mtime >= since
    return f"{count} files written since; removed ones are not seen", count
