"""Redis databases into the store: the snapshot that a server sends to a replica, seen to be whole, packed, proved."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep import __version__
from upkeep.adapters import backup_staging, copy_pack, rdb, redis_line, redis_scratch
from upkeep.adapters.backup_making import Making
from upkeep.adapters.rdb import Rdb
from upkeep.core.backup import CopyManifest, FileEntry, Kept, Progress, Say
from upkeep.core.copies import PACKED, REDIS_PROOF, CopyOptions, RedisFacts, Refused
from upkeep.core.errors import DamagedError, TransientError

_FILE = PACKED["redis"].removesuffix(".gz")
# Keys come and go while a snapshot is sent, so the counts around it bind its own only roughly.
_SLACK_SHARE, _SLACK = 0.1, 1000


def copy(
    given: dict[str, Any], making: Making, options: CopyOptions, scratch: Path, say: Say
) -> Kept[CopyManifest] | Refused:
    """Have the server send its data, see that the file is whole, pack and store it.

    :raises TransientError: the server is away, loads, or ended the connection before all was sent.
    :raises DamagedError: what arrived is no whole RDB, or does not hold the keys that the server has.
    """
    begun = time.monotonic()
    before = redis_line.facts(given)
    if before.loading or not before.link_up:
        seen = "loads its data" if before.loading else "is a replica that does not hear its primary"
        raise TransientError(f"{redis_line.place(given)} {seen}", "its data would be old or missing; it is tried again")
    if before.cluster:
        return Refused(
            reason="unsupported",
            message=f"{redis_line.place(given)} is one node of a Redis Cluster: its data are a part of the whole",
            hint="back the cluster up where it runs, and give this target `skip: {backup.redis: <where that is done>}`",
        )
    # Uncompressed in memory, a dump is smaller; the packed form adds at worst as much again.
    backup_staging.need(scratch, 2 * before.used_memory, "the dump and its packed form")
    with backup_staging.staging(scratch, making.place.target, making.id) as folder, making:
        plain = folder / _FILE
        plain.unlink(missing_ok=True)
        deadline = begun + options.seconds
        if refused := redis_line.receive(given, plain, deadline, _progress(before, begun, say)):
            return refused
        after, received = redis_line.facts(given), time.monotonic()
        proof = _proof(plain, before, after, options, deadline)
        entry = _store(making, plain, options.compression_level)
        manifest = CopyManifest(
            kind="redis",
            id=making.id,
            target=making.place.target,
            run_id=making.run_id,
            tier=options.tier,
            key_id=making.store.key_id,
            started=making.started,
            finished=datetime.now(UTC),
            tools={"upkeep": __version__, "loaded_by": proof["loaded_by"]},
            settings={"compression_level": options.compression_level, "unpacked_bytes": proof["bytes"]},
            files=(entry,),
            version=before.version,
            proof=proof,
            seconds={"receive": received - begun, "store": time.monotonic() - received},
        )
        return making.finish(manifest)


def faults(
    path: Path, proof: dict[str, Any], programs: str, deadline: float
) -> tuple[list[str], dict[str, int] | None]:
    """Tell in which ways an unpacked dump is not what its proof says, and its keys when a server could load it."""
    if proof.get("format") != REDIS_PROOF:
        return [f"its proof is of format {proof.get('format')!r}, expected {REDIS_PROOF}"], None
    program = redis_scratch.find(programs)
    try:
        seen = rdb.look(path, whole=program is None)
    except DamagedError as error:
        return [error.message], None
    wrong = [
        f"{name} is {now}, expected {then}"
        for name, now, then in (("size", seen.size, proof["bytes"]), ("checksum", seen.checksum, proof["checksum"]))
        if now != then
    ]
    if program is None:
        return wrong, None
    loaded = redis_scratch.load(program, path, deadline)
    if loaded.keys is None:
        return [*wrong, *([loaded.message] if loaded.damaged else [])], None
    return [*wrong, *_missing(loaded.keys, proof)], loaded.keys


def _proof(plain: Path, before: RedisFacts, after: RedisFacts, options: CopyOptions, deadline: float) -> dict[str, Any]:
    program = redis_scratch.find(options.programs)
    seen: Rdb = rdb.look(plain, whole=program is None)  # a server that loads it looks at the checksum itself
    proof: dict[str, Any] = {
        "format": REDIS_PROOF,
        "rdb": seen.format,
        "bytes": seen.size,
        "checksum": seen.checksum,
        "notes": seen.notes,
        "used_memory": before.used_memory,
        "keys_before": before.keys,
        "keys_after": after.keys,
        "keys": None,
        "loaded_by": "",
    }
    if program is not None:
        loaded = redis_scratch.load(program, plain, deadline)
        if loaded.damaged:
            raise DamagedError(loaded.message, "the server's data may be damaged: see its log, try again")
        proof |= {"keys": loaded.keys, "loaded_by": program.name if loaded.keys is not None else ""}
        if loaded.keys is not None and (wrong := _missing(loaded.keys, {**proof, "keys": None})):
            raise DamagedError(f"the dump does not hold what the server has: {'; '.join(wrong)}", "try again")
    return proof


def _missing(keys: dict[str, int], proof: dict[str, Any]) -> list[str]:
    """Compare counts of keys: exactly where they are known, else with those around the snapshot."""
    exact, wrong = proof["keys"], []
    before, after = proof["keys_before"], proof["keys_after"]
    for number in sorted({*keys, *(exact or {}), *before, *after}):
        seen = keys.get(number, 0)
        if exact is not None:
            low = high = exact.get(number, 0)
        else:
            around = before.get(number, 0), after.get(number, 0)
            low = int(min(around) * (1 - _SLACK_SHARE)) - _SLACK
            high = int(max(around) * (1 + _SLACK_SHARE)) + _SLACK
            low = max(low, 1 if min(around) else 0)
        if not low <= seen <= high:
            wrong.append(f"database {number} has {seen} keys, expected {low if low == high else f'{low} to {high}'}")
    return wrong


def _store(making: Making, plain: Path, level: int) -> FileEntry:
    packed = plain.with_name(PACKED["redis"])
    copy_pack.pack(plain, packed, level)
    written = making.store.write(f"{making.prefix}/{packed.name}", packed)
    return FileEntry(name=packed.name, size=written.size, sha256=written.sha256)


def _progress(before: RedisFacts, begun: float, say: Say) -> Callable[[int], None]:
    def progress(done: int) -> None:
        say(
            Progress(
                phase="dump", done=0, total=1, bytes_done=done, bytes_total=max(before.used_memory, done),
                seconds=time.monotonic() - begun,
            )
        )  # fmt: skip

    return progress
