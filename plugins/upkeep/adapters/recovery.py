"""Bringing back databases, files and whole systems; see `core.recovery.Recoverer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from upkeep.adapters import archive as archives
from upkeep.adapters import object_store, recovery_look
from upkeep.adapters.object_store import Store
from upkeep.adapters.recovery_look import Means
from upkeep.core.recovery import DatabaseOrder, Preflight, Restored, Tell, TreeOrder
from upkeep.core.system import StoreRef


def make_recoverer(conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> Recovery:
    """Return what brings things back on this worker.

    :param conninfo: turns an Airflow connection id into a libpq connection string.
    :param store: opens the store that a system file names.
    :param scratch: an existing folder for what is on its way.
    """
    return Recovery(conninfo, store, scratch)


class Recovery:
    """See `core.recovery.Recoverer`."""

    def __init__(self, conninfo: Callable[[str], str], store: Callable[[StoreRef], Store], scratch: Path) -> None:
        self._conninfo, self._store, self._scratch = conninfo, object_store.once(store), scratch
        self._archive = archives.make_archiver(conninfo, self._store, scratch)

    def look(self, order: DatabaseOrder | TreeOrder) -> Preflight:
        """Look at backup, target and server; change nothing."""
        means = self._means(order)
        if isinstance(order, DatabaseOrder):
            return recovery_look.look(means, order)
        from upkeep.adapters import recovery_tree

        return recovery_tree.look(means, order)

    def restore(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> Restored:
        """Restore beside, compare with the manifest, swap by rename; on any failure leave what was there before."""
        means = self._means(order)
        if isinstance(order, DatabaseOrder):
            from upkeep.adapters.recovery_database import DatabaseRestore

            return DatabaseRestore(means, order, tell).run()
        from upkeep.adapters import tree_backup
        from upkeep.adapters.recovery_tree import TreeRestore

        return TreeRestore(means, tree_backup.make_trees(self._store, self._scratch), order, tell).run()

    def _means(self, order: DatabaseOrder | TreeOrder) -> Means:
        return Means(self._archive, self._store(order.place.store), self._conninfo, self._scratch)
