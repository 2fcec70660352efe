"""The catalogue of backups as the ledger keeps it; see `core.catalogue`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from upkeep.core.backup import Kind
from upkeep.core.catalogue import Entry
from upkeep.ledger import events as ev
from upkeep.ledger.store import Ledger

# What is learnt outside any run, by hand after the ledger was lost.
BY_HAND = ev.RunKey(dag_id="", run_id="")


class LedgerCatalogue:
    """Reads the catalogue from the ledger; what it learns is an event, so it survives an absence of the ledger.

    :param run: the run that learns.
    """

    def __init__(self, ledger: Ledger, run: ev.RunKey = BY_HAND) -> None:
        self._ledger = ledger
        self._run = ev.RunKey(dag_id=run.dag_id, run_id=run.run_id)

    @property
    def reachable(self) -> bool:
        """Whether the ledger answers."""
        return self._ledger.ask("recent_runs", limit=0) is not None

    def entries(self, target: str, kind: Kind) -> tuple[Entry, ...]:
        """Return the backups of a series, newest first, removed ones included; none while the ledger is away.

        Whoever concludes anything from what is *not* here asks `reachable` afterwards.
        """
        rows = self._ledger.ask("backup_entries", target=target, kind=kind) or ()
        return tuple(Entry.model_validate(row) for row in rows)

    def learn(self, entries: Iterable[Entry]) -> int:
        """Put backups on record that are not there; return how many are new.

        While the ledger is away they wait in the spool, and none counts as new: nobody can tell.
        """
        wanted = {(entry.target, entry.kind, entry.id): entry for entry in entries}
        if not wanted:
            return 0
        series = {key[:2] for key in wanted}
        known = {(e.target, e.kind, e.id) for one in series for e in self.entries(*one)}
        event = ev.BackupsLearned(at=datetime.now(UTC), run=self._run, backups=tuple(wanted.values()))
        return len(wanted.keys() - known) if self._ledger.write(event) else 0
