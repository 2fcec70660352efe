"""SQLite databases into the store: a consistent copy of a file in use, and the proof of the rows in it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from upkeep import __version__
from upkeep.adapters import backup_staging, copy_pack, sqlite
from upkeep.adapters._sqlite_copy import Moved, copy_consistently
from upkeep.adapters._sqlite_errors import not_done
from upkeep.adapters._sqlite_fingerprint import Fingerprint, fingerprint
from upkeep.adapters.backup_making import Making
from upkeep.core.backup import CopyManifest, FileEntry, Kept, Progress, Say
from upkeep.core.copies import PACKED, SQLITE_PROOF, CopyOptions
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError

_FILE = PACKED["sqlite"].removesuffix(".gz")
_CHECKED = 5


def copy(path: str, making: Making, options: CopyOptions, scratch: Path, say: Say) -> Kept[CopyManifest]:
    """Copy a database that others write to, prove the copy, pack and store it.

    :raises DamagedError: the database says that it is, or the copy is not what its source was.
    :raises TransientError: it is locked, changes faster than it can be copied, or there is no space.
    """
    begun = time.monotonic()
    size = sum(_bytes(f"{path}{end}") for end in ("", "-wal"))
    backup_staging.need(scratch, 2 * size, "the copy and its packed form")
    with backup_staging.staging(scratch, making.place.target, making.id) as folder, making:
        deadline = begun + options.seconds
        plain = folder / _FILE
        seen = _copied(path, plain, options, deadline)
        copied = time.monotonic()
        say(_progress("dump", 1, size, size, copied - begun))
        if wrong := faults(plain, proof_of(seen), deadline):
            raise DamagedError(f"{path}: its copy is not what it was: {'; '.join(wrong)}", "look at disk and memory")
        packed = folder / PACKED["sqlite"]
        copy_pack.pack(plain, packed, options.compression_level)
        written = making.store.write(f"{making.prefix}/{packed.name}", packed)
        say(_progress("upload", 1, written.size, written.size, time.monotonic() - begun))
        manifest = CopyManifest(
            kind="sqlite",
            id=making.id,
            target=making.place.target,
            run_id=making.run_id,
            tier=options.tier,
            key_id=making.store.key_id,
            started=making.started,
            finished=datetime.now(UTC),
            tools={"upkeep": __version__, "sqlite": sqlite3.sqlite_version},
            settings={"compression_level": options.compression_level, "unpacked_bytes": _bytes(str(plain))},
            files=(FileEntry(name=packed.name, size=written.size, sha256=written.sha256),),
            version=sqlite3.sqlite_version,
            proof=proof_of(seen),
            seconds={"copy": copied - begun, "store": time.monotonic() - copied},
        )
        return making.finish(manifest)


def proof_of(seen: Fingerprint) -> dict[str, Any]:
    """Return a fingerprint as it stands in a manifest; what no UTF-8 is in a name is written as `\\xff`."""
    tables = {_plain(name): [rows, digest] for name, (rows, digest) in seen.tables.items()}
    return {"format": SQLITE_PROOF, "schema": seen.schema, "rows": seen.rows, "tables": tables}


def faults(path: Path, proof: dict[str, Any], deadline: float) -> list[str]:
    """Read a copy, its pages, indexes and rows, and tell in which ways it is not what the proof says.

    :raises TransientError: there was not enough time.
    """
    uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
    try:
        with (
            closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection,
            sqlite.limited(connection, max(deadline - time.monotonic(), 0)),
        ):
            said = [
                str(row["message"]) for row in sqlite.rows(connection, "sqlite/integrity_check", {"most": _CHECKED})
            ]
            if said != ["ok"]:
                return [f"integrity_check: {line}" for line in said]
            return _differences(proof, proof_of(fingerprint(connection)))
    except sqlite3.Error as error:
        if not_done(error).reason == "timeout":
            raise TransientError(f"{path.name}: not read in time", "give it more `seconds`") from error
        return [str(error)]


def _differences(proof: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    if proof.get("format") != SQLITE_PROOF:
        return [f"its proof is of format {proof.get('format')!r}, expected {SQLITE_PROOF}"]
    wrong = [] if proof["schema"] == seen["schema"] else ["the schema differs"]
    then, now = proof["tables"], seen["tables"]
    for name in sorted(then.keys() | now.keys()):
        left, right = then.get(name), now.get(name)
        if left is None or right is None:
            wrong.append(f"table {name} is {'missing' if right is None else 'not in the proof'}")
        elif list(left) != list(right):
            wrong.append(f"table {name} has {right[0]} rows, hash {right[1][:12]}; expected {left[0]}, {left[1][:12]}")
    return wrong


def _copied(path: str, into: Path, options: CopyOptions, deadline: float) -> Fingerprint:
    into.touch(mode=0o600)
    try:
        with sqlite.connected(path, busy_timeout=options.busy_timeout) as source:
            return copy_consistently(source, into, deadline, options.hold_seconds, "")
    except Moved as error:
        raise TransientError(f"{path}: {error}", "raise `hold_seconds`, or use a write-ahead log") from error
    except sqlite3.Error as error:
        raise _error(path, error) from error


def _error(path: str, error: sqlite3.Error) -> UpkeepError:
    seen = not_done(error)
    message = f"{path}: {seen.message}"
    match seen.reason:
        case "damaged":
            return DamagedError(message, "restore it from its latest verified backup; keep the damaged file")
        case "privilege":
            return ConfigurationError(message, "let the worker's user read the file and write its folder (WAL mode)")
        case "timeout":
            return TransientError(f"{path}: not copied in time", "give it more `seconds`; it is tried again")
        case "full":
            return TransientError(message, "free space in the scratch folder; it is tried again")
    return TransientError(message, "somebody holds a lock, or the disk has trouble; it is tried again")


def _plain(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _progress(phase: str, done: int, bytes_done: int, bytes_total: int, seconds: float) -> Progress:
    said = {"phase": phase, "done": done, "total": 1, "bytes_done": bytes_done, "bytes_total": bytes_total}
    return Progress.model_validate({**said, "seconds": seconds})
