"""An emergency restore of a database: filled beside, compared with the manifest, swapped in by renaming."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upkeep.adapters import (
    backup_fetch,
    backup_staging,
    encrypted_store,
    pg_restore,
    pg_tools,
    process,
    recovery_look,
    recovery_proof,
    target_lock,
)
from upkeep.adapters.backup_snapshot import conninfo_of
from upkeep.adapters.recovery_look import APPLICATION, Means
from upkeep.adapters.recovery_steps import Timeline
from upkeep.adapters.recovery_swap import BROKEN, Mark, Swap, beside, stamp, told, undo
from upkeep.adapters.workbench import Workbench, open_workbench
from upkeep.core.backup import Database, Manifest
from upkeep.core.errors import ConfigurationError, DamagedError, UnsafeError, UpkeepError
from upkeep.core.recovery import DatabaseOrder, Restored

# A name whose only other meaning would be that it was chosen by hand to look like ours; it must be empty as well.
_BESIDE = re.compile(r"__restored_[0-9a-f]{8}$")


class DatabaseRestore:
    """One restore of one database; see `core.recovery.Recoverer.restore`."""

    def __init__(self, means: Means, order: DatabaseOrder, tell: Callable[[str], None]) -> None:
        self._archive, self._store, self._conninfo, self._scratch = means
        self._order, self._tell = order, tell
        self._line = Timeline(tell)
        self._warnings: list[str] = []
        self._mended: tuple[str, ...] = ()
        self._still_alone: Callable[[], None] = lambda: None

    def run(self) -> Restored:
        """Do it. :raises UpkeepError: it could not be done, and what was there before is there again."""
        order, target = self._order, self._order.place.target
        name = recovery_look.database_name(self._conninfo, order)
        manifest = self._archive.manifest(order.place, order.backup)
        if not isinstance(manifest, Manifest):
            raise ConfigurationError(f"{order.backup} is a backup of kind {manifest.kind}", "choose a dump")
        recovery_look.check_identity(self._archive, order, manifest)
        with (
            self._working(name) as swap,
            backup_staging.staging(self._scratch, target, f"recover-{manifest.id}") as folder,
        ):
            return self._restore(swap, manifest, folder)

    def mend(self) -> tuple[str, ...]:
        """Go back from what earlier restores left half done, and say what was done."""
        with self._working(recovery_look.database_name(self._conninfo, self._order)):
            return self._mended

    @contextmanager
    def _working(self, name: str) -> Iterator[Swap]:
        """Hold the lock that keeps two restores on one server apart, and mend what earlier ones left.

        It is a lock in the database from which the work is done: the one that is replaced may be gone.
        """
        reach = recovery_look.admin(self._conninfo, self._order)
        options: dict[str, Any] = {"application_name": APPLICATION, "statement_timeout": 60}
        patience = self._order.patience
        with (
            open_workbench(reach, **options) as session,
            target_lock.hold(reach, database=None, application_name=APPLICATION, patience=patience) as alone,
        ):
            self._still_alone = alone
            swap = Swap(session, name, self._tell)
            with self._line.step("mend what earlier restores left") as note:
                self._mended = swap.mend() + self._sweep_empty(session, swap) + self._sweep_staging()
                note.detail = "; ".join(self._mended) or "nothing"
            yield swap

    def _restore(self, swap: Swap, manifest: Manifest, folder: Path) -> Restored:
        like = swap.find()
        now = datetime.now(UTC)
        mark = Mark(
            of=swap.name,
            backup=manifest.id,
            run_id=self._order.run_id,
            restored=beside(swap.name, "restored", manifest.id[-8:]),
            before=beside(swap.name, "before", stamp(now)) if like else "",
            was_open=bool(like and like["open"] and like["connection_limit"] != BROKEN),
            broken=bool(like and like["connection_limit"] == BROKEN),
        )
        if swap.find(mark.restored) or (mark.before and swap.find(mark.before)):
            raise UnsafeError(
                f"{swap.place}: there is a database {mark.restored} or {mark.before} already, without a mark of ours",
                "rename or drop it by hand, then run this again",
            )
        archive = folder / "archive"
        archive.mkdir()
        with self._line.step("fetch") as note:
            store = encrypted_store.reading(self._store, manifest)
            count = backup_fetch.fetch(store, f"{self._order.place.series}/{manifest.id}", manifest, archive)
            note.detail = f"{count} bytes, every file as the manifest says"
        try:
            with self._alone(like):
                self._fill(swap, mark, manifest, archive, like)
                self._still_alone()
            closed = self._exchange(swap, mark, manifest, like)
        except BaseException:
            with suppress(UpkeepError):  # the next restore drops what cannot be dropped now
                swap.drop(mark.restored)
            raise
        return self._told(swap, mark, manifest, closed)

    def _pour(self, programs: Any, conninfo: str, archive: Path, events: pg_restore.EventTriggers) -> tuple[str, ...]:
        said = recovery_proof.fill(
            programs, conninfo, archive, jobs=self._order.jobs, on_tick=self._tick, events=events
        )
        self._warnings += said
        return said

    def _fill(self, swap: Swap, mark: Mark, manifest: Manifest, archive: Path, like: dict[str, Any] | None) -> None:
        programs = recovery_look.find_programs(swap.session.version, manifest, self._order.programs)
        with self._line.step(f"make {mark.restored}"):
            if like:
                swap.create(like, mark)
            else:
                self._create_anew(swap, mark, programs, archive)
        beside_it = self._reach(mark.restored)
        with self._line.step("restore") as note:
            said = self._pour(programs, beside_it, archive, "without")
            note.detail = f"pg_restore {programs.version}, {len(said)} harmless complaints"
        with self._line.step("compare") as note:
            note.detail = self._proof = recovery_proof.prove(beside_it, manifest, self._order.jobs)
            self._pour(programs, beside_it, archive, "only")
        with (
            self._line.step("analyze"),
            told(swap.place),
            open_workbench(beside_it, application_name=APPLICATION) as one,
        ):
            one.run("analyze")
        with self._line.step("smoke questions") as note:
            note.detail = recovery_proof.smoke(beside_it, self._order.smoke) or "the system file has none"
        if like:
            with self._line.step("carry over privileges and settings") as note:
                differing = swap.carry(like, mark.restored)
                self._warnings += differing
                note.detail = "; ".join(differing) or "as before"

    def _exchange(self, swap: Swap, mark: Mark, manifest: Manifest, like: dict[str, Any] | None) -> float:
        """Swap and verify; return for how many seconds nobody could work with the database."""
        try:
            began = time.monotonic()
            with self._line.step("swap"):
                if like:
                    swap.close(mark, self._order.drain)
                swap.swap(mark)
            closed = time.monotonic() - began
            with self._line.step("verify as the application") as note:
                note.detail = self._verify(swap, manifest)
        except BaseException:
            with (
                suppress(UpkeepError),
                self._line.step("roll back"),
            ):  # what cannot be undone now, the next restore does
                self._go_back(swap, mark)
            raise
        swap.finish(like)
        return closed

    def _go_back(self, swap: Swap, mark: Mark) -> None:
        """Go back from wherever the swap was."""
        if swap.find(mark.restored) is None:
            swap.back(mark, self._order.drain)
        elif mark.before:
            swap.open(mark)

    def _verify(self, swap: Swap, manifest: Manifest) -> str:
        """Connect as the application does and see that it meets the restored database.

        :raises DamagedError: it does not.
        """
        reach = conninfo_of(self._conninfo, self._order.application)
        with open_workbench(reach, database=swap.name, application_name=APPLICATION) as session:
            seen, expected = session.rows("recovery/content")[0]["tables"], swap.find()
            me = session.connection.execute(
                "select oid::bigint from pg_database where datname = current_database()"
            ).fetchone()
        if me is None or expected is None or me[0] != expected["oid"]:
            raise DamagedError(f"{swap.place}: the application meets another database than {swap.name}", "")
        leaves = {t.name for t in manifest.tables}
        if seen < len(leaves):
            raise DamagedError(f"the application sees {seen} tables, expected {len(leaves)}", "is it the right server?")
        self._tell("ask as the application")
        said = recovery_proof.smoke(reach, self._order.smoke)
        return f"{seen} tables" + (f", {said}" if said else "")

    def _told(self, swap: Swap, mark: Mark, manifest: Manifest, closed: float) -> Restored:
        steps = undo(swap.name, mark.before, manifest.id) if mark.before else ()
        return Restored(
            backup=manifest.id,
            name=swap.name,
            kept=mark.before,
            undo=steps,
            steps=tuple(self._line.steps),
            proof=self._proof,
            warnings=tuple(self._warnings),
            closed_seconds=round(closed, 3),
        )

    def _tick(self) -> None:
        self._still_alone()

    def _reach(self, database: str) -> str:
        return conninfo_of(self._conninfo, Database(conn_id=self._order.server.conn_id, database=database))

    @contextmanager
    def _alone(self, like: dict[str, Any] | None) -> Iterator[None]:
        """Keep other maintenance off the present database while the new one is filled; where it cannot be entered,
        nobody else works in it either."""
        if like is None or not like["open"]:
            yield
            return
        try:
            with open_workbench(self._reach(like["name"]), application_name=APPLICATION):
                pass
        except UpkeepError as error:
            self._warnings.append(f"other maintenance was not kept away: {error.message}")
            yield
            return
        patience = self._order.patience
        with target_lock.hold(
            self._reach(like["name"]), database=None, application_name=APPLICATION, patience=patience
        ):
            yield

    def _create_anew(self, swap: Swap, mark: Mark, programs: pg_tools.Programs, archive: Path) -> None:
        """Make the database as the dump says, for there is none to take after."""
        from psycopg import sql

        made = pg_restore.definition(programs, archive)
        owner = self._owner(programs, archive)
        text = sql.SQL("create database {} with {} owner = {}").format(
            sql.Identifier(mark.restored), sql.SQL(made.options), sql.Identifier(owner)
        )
        with told(swap.place):
            swap.session.connection.execute("select set_config('statement_timeout', '0', false)")
            swap.session.connection.execute(text)
            swap.mark(mark.restored, mark)
            for setting in made.settings:
                one = sql.SQL("alter database {} ").format(sql.Identifier(mark.restored)) + sql.SQL(setting)
                swap.session.connection.execute(one)
        self._warnings.append(
            f"there was no database {swap.name}: privileges on the database itself are those of a new one; see the dump"
        )

    def _owner(self, programs: pg_tools.Programs, archive: Path) -> str:
        done, out = process.run([programs.path("pg_restore"), "--create", "--list", archive])
        found = re.search(r"^\d+; \d+ \d+ DATABASE - .* (\S+)$", out.decode(errors="replace"), re.M)
        if done.code or not found:
            raise DamagedError(
                "the archive does not say who owned the database", "create it by hand, then run this again"
            )
        return found[1]

    def _sweep_staging(self) -> tuple[str, ...]:
        """Remove what killed restores had fetched: it is the database in clear, and a password."""
        found = backup_staging.abandoned(self._scratch, self._order.place.target)
        ours = [left for left in found if "-recover-" in left.name]
        for left in ours:
            backup_staging.remove(self._scratch, left)
        return tuple(f"{left.name} is removed from the worker" for left in ours)

    def _sweep_empty(self, session: Workbench, swap: Swap) -> tuple[str, ...]:
        """Drop what was made and not yet marked when its worker was killed: it has our name, no comment, no table."""
        gone = []
        rows = session.connection.execute(
            "select datname::text from pg_database where shobj_description(oid, 'pg_database') is null"
        ).fetchall()
        for (name,) in rows:
            if not _BESIDE.search(name) or name != beside(swap.name, "restored", name[-8:]):
                continue
            with open_workbench(self._reach(name), application_name=APPLICATION) as one:
                empty = one.rows("recovery/content")[0]["tables"] == 0
            if empty:
                mark = Mark(of=swap.name, backup="", run_id="", restored=name)
                swap.mark(name, mark)
                swap.drop(name)
                gone.append(f"{name}, made and left empty, is dropped")
        return tuple(gone)
