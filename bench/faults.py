"""Which faults of a backup who notices: `python -m bench.faults` makes each for real and prints a table.

Each fault is made on an artefact of its own, and everybody is asked about the same fault: our verification (and, where
that may not see it, the restore test), and beside it what people rely on: `pg_restore --list`, the exit code of
`pg_restore` into an empty database, equal row counts afterwards, `pg_verifybackup` for a cluster's files, and
`pgbackrest verify` (Debian's 2.45) where it is installed. A cell says `yes` when the fault is told and the exit status
says so too, `told, exit 0` when only the text does, `no` when it passes as good, and nothing where it does not apply.

Two rows have no fault: there a `yes` is a false alarm. The exit code is 1 when one of ours is not right.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults_cluster import cluster_faults, nothing
from bench.faults_routine import routine_faults
from bench.faults_world import COLUMNS, Bench, bench, flip, truncate
from upkeep.core.backup import MANIFEST, encode
from upkeep.core.errors import ConfigurationError, UpkeepError

Cells = dict[str, str]


@dataclass
class Case:
    """One copy of a good dump that a fault is made in."""

    world: Bench
    folder: Path
    manifest: Any
    place: Any
    seen: Cells = field(default_factory=dict)

    def data(self, table: str) -> Path:
        """Return the file with the rows of a table."""
        ids = {proof.name[1]: proof.oid for proof in self.manifest.tables}
        return self.world.data_file(self.folder, ids[table])


def dump_faults(world: Bench) -> Iterator[tuple[str, Cells]]:
    """Yield each fault of a dump with who noticed it."""
    deeds: dict[str, tuple[bool, Callable[[Case], None]]] = {
        "dump: nothing wrong": (True, lambda c: nothing(c.folder)),
        "dump: data file truncated": (True, lambda c: truncate(c.data("item"))),
        "dump: bit flipped in compressed data": (True, lambda c: flip(c.data("item"))),
        "dump: bit flipped in uncompressed data": (False, lambda c: flip(c.data("item"), b"beeblebrox")),
        "dump: data file missing": (True, lambda c: c.data("item").unlink()),
        "dump: files of two tables swapped": (True, lambda c: swap(c.data("item"), c.data("item_old"))),
        "dump: table of contents altered": (True, lambda c: flip(c.folder / "toc.dat", b"item_old")),
        "dump: manifest altered": (True, alter),
        "dump: damaged on the worker, before it was hashed": (False, damage_unseen),
    }
    for name, (compressed, deed) in deeds.items():
        with case(world, compressed) as one:
            deed(one)
            yield name, {"ours": ours(one), **peers(world, one.folder)}
    yield "dump: table empty for lack of privilege", unprivileged(world)
    for name, told, folder in routine_faults(world):
        yield name, {"ours": told, **peers(world, folder)}
    yield "dump: encrypted with a key that is gone", {"ours": world.lost_key()}


@contextmanager
def case(world: Bench, compressed: bool) -> Iterator[Case]:
    """Copy the good dump, so that the next fault finds it whole."""
    good = world.dump(compressed)
    with world.copy_of(good) as (folder, place):
        yield Case(world, folder, good.manifest, place)


def swap(one: Path, other: Path) -> None:
    """Exchange two files."""
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def damage_unseen(one: Case) -> None:
    """Damage a row and put every hash of the file in order, as memory that fails between pg_dump and us would."""
    path = one.data("item")
    flip(path, b"beeblebrox")
    manifest, seen = one.manifest, hashlib.sha256(path.read_bytes()).hexdigest()
    files = [f.model_copy(update={"sha256": seen}) if f.name == path.name else f for f in manifest.files]
    (one.folder / MANIFEST).write_bytes(encode(manifest.model_copy(update={"files": tuple(files)})))


def alter(one: Case) -> None:
    """Let the manifest tell of another number of rows."""
    path = one.folder / MANIFEST
    known = json.loads(path.read_text())
    known["manifest"]["tables"][0]["rows"] += 1
    path.write_text(json.dumps(known, sort_keys=True, separators=(",", ":")) + "\n")


def ours(one: Case) -> str:
    """Verify it, and restore it where verification has nothing to say."""
    check = one.world.check(one.place, one.manifest.id)
    if check.faults:
        return f"yes ({', '.join(sorted({fault.check for fault in check.faults}))})"
    return one.world.restore_test(one.place, one.manifest)


def peers(world: Bench, folder: Path) -> Cells:
    """Ask pg_restore and the row counts about the files of a dump."""
    aside = world.folder / MANIFEST
    (folder / MANIFEST).rename(aside)
    try:
        listed = world.run("pg_restore", "--list", folder).returncode
        code, counts = world.restored(folder)
    finally:
        aside.rename(folder / MANIFEST)
    return {
        "pg_restore --list": "no" if listed == 0 else "yes",
        "pg_restore exit code": "no" if code == 0 else "yes",
        "row counts": "no" if counts == world.counts else "yes",
    }


def unprivileged(world: Bench) -> Cells:
    """Dump as a role from which row-level security hides every row of a table."""
    with world.postgres.connect("shop") as connection:
        connection.execute("alter table secret enable row level security")
    try:
        try:
            world.backup_as("clerk")
            told = "no"
        except ConfigurationError:
            told = "yes (refused)"
        folder = world.folder / "clerk"
        dsn = world.postgres.dsn("shop", "clerk")
        dumped = world.run("pg_dump", "--enable-row-security", "-Fd", "-t", "secret", f"--file={folder}", dsn)
        listed = world.run("pg_restore", "--list", folder).returncode
        code, counts = world.restored(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return {
            "ours": told,
            "pg_restore --list": "no" if dumped.returncode == listed == 0 else "yes",
            "pg_restore exit code": "no" if code == 0 else "yes",
            "row counts": "yes" if counts.get("secret") != world.counts["secret"] else "no",
        }
    finally:
        with world.postgres.connect("shop") as connection:
            connection.execute("alter table secret disable row level security")


def table(rows: list[tuple[str, Cells]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [f"| fault | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
    lines += [f"| {name} | {' | '.join(cells.get(column, '') for column in COLUMNS)} |" for name, cells in rows]
    return "\n".join(lines)


def main() -> int:
    """Make every fault and print who noticed."""
    rows: list[tuple[str, Cells]] = []
    try:
        with bench() as world:
            for faults in (dump_faults, cluster_faults):
                for name, cells in faults(world):
                    rows.append((name, cells))
                    print(f"{name}: {cells}", file=sys.stderr, flush=True)
    except (UpkeepError, subprocess.CalledProcessError) as error:
        print(f"the bench itself failed: {error}", file=sys.stderr)
        return 2
    print(table(rows))
    wrong = [name for name, cells in rows if cells["ours"].startswith("yes") == name.endswith("nothing wrong")]
    print(f"\nours: {len(rows) - len(wrong)} of {len(rows)} right" + (f"; not: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
