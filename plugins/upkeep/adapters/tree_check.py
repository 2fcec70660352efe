"""Reading a stored tree again: its list, and every content that the list names."""

from __future__ import annotations

from upkeep.adapters import tree_list, tree_restore
from upkeep.adapters.backup_check import Checking
from upkeep.core.backup import TreeManifest
from upkeep.core.errors import DamagedError
from upkeep.core.tree import LIST, OBJECTS, Entry, list_sha256, shown


class TreeChecking(Checking[TreeManifest]):
    """A check of a tree. Contents are always read, and proved as a restore would: there is no other decoding."""

    def files(self, keep: bool) -> None:
        """Read the list and every content."""
        super().files(keep)
        try:
            _, entries = tree_list.read(self.store, self.manifest, self.prefix)
        except DamagedError as error:
            self.fault("decode", LIST, error.message)
            return
        if (seen := list_sha256(entries)) != self.manifest.list_sha256:
            self.fault("decode", LIST, "the list is another one", seen, self.manifest.list_sha256)
        self._objects(entries)
        self._contents([entry for entry in entries if entry.type == "f"])

    def decode(self, programs: str) -> bool:  # noqa: ARG002
        """Everything has been decoded already."""
        return True

    def _objects(self, entries: list[Entry]) -> None:
        """Compare which objects there are, and their sizes; what no file of this backup lies in would not be read."""
        series = tree_list.series_of(self.prefix)
        listed = {item.key: item.size for item in self.store.list(f"{series}/{OBJECTS}/")}
        for name, size in sorted({entry.object: entry.object_bytes for entry in entries if entry.object}.items()):
            seen = listed.get(tree_list.key_of(series, name))
            if seen is not None and seen != size:
                self.fault("integrity", f"{OBJECTS}/{name}", "the size differs", f"{seen} bytes", f"{size}")

    def _contents(self, entries: list[Entry]) -> None:
        series, total = tree_list.series_of(self.prefix), sum(entry.size for entry in entries)
        for number, (entry, wrong) in enumerate(tree_restore.proved(self.store, series, entries), 1):
            self.bytes += entry.stored_bytes
            if wrong:
                # Names of secret sets are in the list only.
                subject = f"{OBJECTS}/{entry.object}" if self.manifest.secret else shown(entry.name)
                self.fault("integrity", subject, wrong, "", f"{entry.size} bytes")
            if number % 100 == 0 or number == len(entries):
                self.say("decode", number, len(entries), self.bytes, total)
