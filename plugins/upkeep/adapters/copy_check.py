"""Checks of stored SQLite and Redis databases: unpacked, read or loaded, and compared with their proof."""

from __future__ import annotations

import time
from pathlib import Path

from upkeep.adapters import backup_staging, copy_pack, copy_redis, copy_sqlite
from upkeep.adapters.backup_check import Checking
from upkeep.core.backup import CopyManifest
from upkeep.core.copies import PACKED
from upkeep.core.errors import DamagedError

_SECONDS = 4 * 3600.0


class _CopyChecking(Checking[CopyManifest]):
    """What both have in common: one packed file."""

    def unpacked(self) -> Path | None:
        """Unpack the file; None, and a fault, when that cannot be."""
        packed = self.folder / PACKED[self.manifest.kind]
        plain = packed.with_suffix("")
        expected = int(self.manifest.settings["unpacked_bytes"])
        if not packed.exists():
            return None  # told of by `files`
        backup_staging.need(self.folder, expected, "the unpacked database")
        try:
            size = copy_pack.unpack(packed, plain, expected)
        except DamagedError as error:
            self.fault("decode", packed.name, error.message)
            return None
        if size != expected:
            self.fault("decode", plain.name, "the size differs", f"{size} bytes", f"{expected} bytes")
        return plain


class SqliteChecking(_CopyChecking):
    """Opened as an application would, every page, index and row read."""

    def decode(self, programs: str) -> bool:  # noqa: ARG002
        """Run integrity_check and compare the fingerprint of every table."""
        plain = self.unpacked()
        if plain is None:
            return True
        wrong = copy_sqlite.faults(plain, self.manifest.proof, time.monotonic() + _SECONDS)
        for message in wrong:
            self.fault("decode", plain.name, message)
        tables = self.manifest.proof.get("tables", {})
        self.tables, self.rows = len(tables), 0 if wrong else sum(rows for rows, _ in tables.values())
        return True


class RedisChecking(_CopyChecking):
    """Loaded by a server of our own where one is found; else only its end and checksum are looked at."""

    def decode(self, programs: str) -> bool:
        """Load it and compare the keys of every database; False where no server could."""
        plain = self.unpacked()
        if plain is None:
            return True
        wrong, keys = copy_redis.faults(plain, self.manifest.proof, programs, time.monotonic() + _SECONDS)
        for message in wrong:
            self.fault("decode", plain.name, message)
        self.tables, self.rows = len(keys or {}), sum((keys or {}).values())
        return bool(wrong) or keys is not None
