"""Bringing back databases, files and whole systems; see `core.recovery.Recoverer`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from upkeep.adapters import archive as archives
from upkeep.adapters import object_store, recovery_look
from upkeep.adapters.object_store import Store
from upkeep.adapters.recovery_look import Means
from upkeep.core.backup import Leftover
from upkeep.core.recovery import Asking, DatabaseOrder, Preflight, Rebuild, Rebuilt, Restored, Tell, TreeOrder
from upkeep.core.targets import StoreRef

if TYPE_CHECKING:
    from upkeep.adapters.recovery_database import DatabaseRestore
    from upkeep.adapters.recovery_tree import TreeRestore


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

    def mend(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> tuple[str, ...]:
        """Go back from what an earlier restore left half done; return what was done, in words."""
        return self._work(order, tell).mend()

    def restore(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> Restored:
        """Restore beside, compare with the manifest, swap by rename; on any failure leave what was there before."""
        return self._work(order, tell).run()

    def _work(self, order: DatabaseOrder | TreeOrder, tell: Tell) -> DatabaseRestore | TreeRestore:
        means = self._means(order)
        if isinstance(order, DatabaseOrder):
            from upkeep.adapters.recovery_database import DatabaseRestore

            return DatabaseRestore(means, order, tell)
        from upkeep.adapters import tree_backup
        from upkeep.adapters.recovery_tree import TreeRestore

        return TreeRestore(means, tree_backup.make_trees(self._store, self._scratch), order, tell)

    def rebuild(self, order: Rebuild, tell: Tell, ask: Asking) -> Rebuilt:
        """Bring a whole system back in a scratch place, ask its services, and remove everything again.

        The sources are asked only when everything is removed: what they say can have no part in what came back.
        """
        from upkeep.adapters import recovery_lost
        from upkeep.adapters.recovery_system import SystemRebuild

        work = SystemRebuild(self._archive, self._store, self._scratch, order, tell)
        done = work.run(ask)
        parts = []
        for part, back in zip(order.parts, done.parts, strict=True):
            manifest = work.manifests.get(part.name)
            words, count = recovery_lost.lost(self._conninfo, part, manifest) if manifest else ("everything", None)
            parts.append(back.model_copy(update={"lost": words, "changed": count}))
        return done.model_copy(update={"parts": tuple(parts)})

    def leftovers(self, target: str) -> tuple[Leftover, ...]:
        """List the scratch places of rebuilds whose worker is gone."""
        from upkeep.adapters import scratch_place

        return tuple(scratch_place.abandoned(self._scratch, target))

    def sweep(self, target: str) -> tuple[Leftover, ...]:
        """End and remove them, and return them."""
        from upkeep.adapters import scratch_place

        found = self.leftovers(target)
        for left in found:
            scratch_place.remove(self._scratch, left)
        return found

    def _means(self, order: DatabaseOrder | TreeOrder) -> Means:
        return Means(self._archive, self._store(order.place.store), self._conninfo, self._scratch)
