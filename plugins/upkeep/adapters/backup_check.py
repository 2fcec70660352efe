"""Reading a stored backup again, whatever its kind: every byte against the manifest."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from upkeep.adapters.object_store import Store, unfinished
from upkeep.core.backup import MANIFEST, MARKER, TOMBSTONE, BaseManifest, Check, Fault, FileEntry, Progress, Say
from upkeep.core.errors import DamagedError


class Checking[M: BaseManifest]:
    """One check of one backup: faults are collected, not raised, so that all of them are told at once.

    Kinds that can be decoded, as a restore would do it, override `decode`; `folder` then holds the files.
    """

    def __init__(self, store: Store, manifest: M, prefix: str, folder: Path, say: Say) -> None:
        self.store, self.manifest, self.folder = store, manifest, folder
        self.prefix = prefix
        self._say_to, self._begun = say, time.monotonic()
        self.faults: list[Fault] = []
        self.bytes = self.rows = 0
        self.tables = len(getattr(manifest, "tables", ()))

    def files(self, keep: bool) -> None:
        """Read every file from the store and compare size and SHA-256; keep them for decoding."""
        listed = {item.key.removeprefix(f"{self.prefix}/"): item.size for item in self.store.list(f"{self.prefix}/")}
        known = {entry.name for entry in self.manifest.files}
        ours = known | {MANIFEST, MARKER, TOMBSTONE}
        for name in sorted(name for name in listed if name not in ours and unfinished(name) not in ours):
            self.fault("integrity", name, "an object that the manifest does not name", f"{listed[name]} bytes", "none")
        for number, entry in enumerate(self.manifest.files, 1):
            self._file(entry, keep)
            self.say("read", number, len(self.manifest.files), self.bytes, self.manifest.size_bytes)

    def _file(self, entry: FileEntry, keep: bool) -> None:
        seen, size = hashlib.sha256(), 0
        try:
            with (
                self.store.read(f"{self.prefix}/{entry.name}") as blocks,
                (self.folder / entry.name if keep else Path("/dev/null")).open("wb") as copy,
            ):
                for block in blocks:
                    seen.update(block)
                    size += len(block)
                    copy.write(block)
        except DamagedError as error:
            self.fault("integrity", entry.name, error.message, "missing or damaged", f"{entry.size} bytes")
            return
        self.bytes += size
        if size != entry.size:
            self.fault("integrity", entry.name, "the size differs", f"{size} bytes", f"{entry.size} bytes")
        elif seen.hexdigest() != entry.sha256:
            self.fault("integrity", entry.name, "the content differs", seen.hexdigest(), entry.sha256)

    def decode(self, programs: str) -> bool:  # noqa: ARG002
        """Decode what was read, and return whether this kind can be.

        :param programs: folders with the programs that may be needed; empty: the usual places.
        """
        return False

    def result(self, decoded: bool) -> Check:
        """Return what was seen."""
        return Check(
            id=self.manifest.id,
            faults=tuple(self.faults),
            files=len(self.manifest.files),
            bytes=self.bytes,
            rows=self.rows,
            tables=self.tables,
            decoded=decoded,
            seconds=time.monotonic() - self._begun,
        )

    def fault(self, check: str, subject: str, message: str, observed: str = "", expected: str = "") -> None:
        """Note one fault; `check` is one of `core.backup.Fault`."""
        said = {"check": check, "subject": subject, "message": message, "observed": observed, "expected": expected}
        self.faults.append(Fault.model_validate(said))

    def say(self, phase: str, done: int, total: int, bytes_done: int, bytes_total: int) -> None:
        """Tell how far it is; see `core.backup.Progress`."""
        said = {"phase": phase, "done": done, "total": total, "bytes_done": bytes_done, "bytes_total": bytes_total}
        self._say_to(Progress.model_validate({**said, "seconds": time.monotonic() - self._begun}))
