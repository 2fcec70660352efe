"""What `bench.faults` works on: servers, a database, good backups of it, and the programs that are asked."""

from __future__ import annotations

import base64
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bench import pgbackrest
from bench.pgbackrest import PgBackRest
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.adapters import object_store, pg_tools
from upkeep.adapters.archive import Archive, make_archiver
from upkeep.adapters.restore_test import Restorer as make_restorer
from upkeep.core.backup import Check, Database, Kind, Manifest, Options, Place, Progress
from upkeep.core.errors import NoKeyError
from upkeep.core.restore import Options as RestoreOptions
from upkeep.core.targets import StoreRef

MAJOR = 15  # the newest that Debian's pgBackRest 2.45 knows
RUN = "manual__bench"
COLUMNS = (
    "ours", "pg_restore --list", "pg_restore exit code", "row counts", "pg_verifybackup", "pgbackrest verify",
)  # fmt: skip
_ROWS = 20_000
_FILL = f"""
create table item (n int primary key, note text);
insert into item select g, 'beeblebrox ' || md5(g::text) from generate_series(1, {_ROWS}) as g;
create table item_old (n int primary key, note text);
insert into item_old select g, 'prefect ' || md5((g * 7)::text) from generate_series(1, {_ROWS}) as g;
create table secret (n int primary key, owner text);
insert into secret select g, 'nobody' from generate_series(1, 100) as g;
grant select on all tables in schema public to clerk;
"""


def quiet(_: Progress) -> None:
    """Take progress without a word."""


def flip(path: Path, marker: bytes = b"") -> None:
    """Flip one bit: of the first byte of a marker, or in the middle of the file."""
    data = bytearray(path.read_bytes())
    at = data.index(marker) if marker else len(data) // 2
    data[at] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    """Cut the second half of a file off."""
    os.truncate(path, path.stat().st_size // 2)


@dataclass(eq=False)
class Bench:
    """A server with a database, and backups of it in folders."""

    postgres: PostgresServer
    folder: Path
    rest: PgBackRest | None = None

    def archive(self, user: str = "postgres", database: str = "shop") -> Archive:
        """Return our archiver, connecting as somebody."""
        return make_archiver(
            lambda _: self.postgres.dsn(database, user), object_store.opener(lambda _: None), self.scratch
        )

    @property
    def scratch(self) -> Path:
        """The folder for what is on its way."""
        path = self.folder / "scratch"
        path.mkdir(exist_ok=True)
        path.chmod(0o711)
        return path

    def place(self, name: str, kind: Kind = "dump") -> Place:
        """Return a place for backups in a folder of that name."""
        return Place(store=StoreRef(url=f"file://{self.folder}/{name}"), target="shop/db", kind=kind)

    @functools.cache  # noqa: B019 - one bench, and it ends with the program
    def dump(self, compressed: bool) -> Any:
        """Make a good backup: as we always do, or uncompressed, as some people do."""
        options = Options(programs=str(self.postgres.bin), jobs=1)
        way = nullcontext() if compressed else mock.patch.object(pg_tools, "compression", lambda *_: "0")
        with way:
            place = self.place("good" if compressed else "good-uncompressed")
            return self.archive().backup(Database(conn_id="db"), place, options, RUN, quiet)

    def backup_as(self, user: str) -> None:
        """Back up as somebody else. :raises UpkeepError: it is refused."""
        options = Options(programs=str(self.postgres.bin), jobs=1)
        self.archive(user).backup(Database(conn_id="db"), self.place("clerks"), options, RUN, quiet)

    @contextmanager
    def copy_of(self, kept: Any) -> Iterator[tuple[Path, Place]]:
        """Yield the folder of a backup's copy, and the place in which it is the only one."""
        place = self.place("broken", kept.manifest.kind)
        source = Path(kept.location.removeprefix("file://"))
        folder = self.folder / "broken" / place.series / kept.manifest.id
        shutil.copytree(source, folder)
        try:
            yield folder, place
        finally:
            shutil.rmtree(self.folder / "broken")

    def data_file(self, folder: Path, oid: int) -> Path:
        """Return the file that holds a table's rows."""
        programs = pg_tools.find(MAJOR * 10_000, str(self.postgres.bin))
        entry = next(e for e in pg_tools.entries(programs, folder) if e.kind == "TABLE DATA" and e.oid == oid)
        return next(folder.glob(f"{entry.dump_id}.dat*"))

    def check(self, place: Place, backup_id: str) -> Check:
        """Verify a backup as the routine does."""
        return self.archive().check(place, backup_id, True, str(self.postgres.bin), quiet)

    def restore_test(self, place: Place, manifest: Manifest) -> str:
        """Restore a backup as the routine does, and compare every row."""
        done = make_restorer(object_store.opener(lambda _: None), self.scratch).test(
            place, manifest.id, RestoreOptions(programs=str(self.postgres.bin)), lambda _: None
        )
        found = [*done.failures, *done.corruption, *(d.told() for d in done.differences)]
        return f"yes (restore test: {', '.join(d.name for d in done.differences) or 'not restored'})" if found else "no"

    def lost_key(self) -> str:
        """Encrypt a backup, and read it again when the connection knows only a younger key."""
        keys = {name: base64.b64encode(os.urandom(32)).decode() for name in ("old", "new")}

        def archive(current: str) -> Archive:
            known = SimpleNamespace(conn_id="keys", login=current, password=keys[current], extra_dejson={})
            return make_archiver(
                lambda _: self.postgres.dsn("shop"), object_store.opener(lambda _: known), self.scratch
            )

        store = StoreRef(url=f"file://{self.folder}/secret", key_conn_id="keys")
        place = Place(store=store, target="shop/db")
        options = Options(programs=str(self.postgres.bin), jobs=1)
        kept = archive("old").backup(Database(conn_id="db"), place, options, RUN, quiet)
        ask = (place, kept.manifest.id, True, str(self.postgres.bin), quiet)
        if archive("old").check(*ask).faults:
            raise NoKeyError("the right key does not open it", "look at adapters/encryption.py")
        try:
            return "no" if not archive("new").check(*ask).faults else "no (taken for damage)"
        except NoKeyError as error:
            return "yes (key named)" if "old" in str(error) else "no (key not named)"

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of the server's own programs."""
        return subprocess.run(
            [self.postgres.bin / program, *arguments], check=False, capture_output=True, text=True, env={"LC_ALL": "C"}
        )

    def restored(self, folder: Path) -> tuple[int, dict[str, int]]:
        """Restore with plain pg_restore into an empty database; return its exit code and the rows of each table."""
        with self.postgres.connect() as connection:
            connection.execute("drop database if exists copy with (force)")
            connection.execute("create database copy template template0")
        done = self.run("pg_restore", "--jobs=2", "--dbname", self.postgres.dsn("copy"), folder)
        return done.returncode, self.count("copy")

    def count(self, database: str) -> dict[str, int]:
        """Count the rows of each table, as superuser."""
        with self.postgres.connect(database) as connection:
            names = [n for (n,) in connection.execute("select relname from pg_class where relkind = 'r' and"
                                                      " relnamespace = 'public'::regnamespace")]  # fmt: skip
            return {
                name: connection.execute(f'select count(*) from "{name}"'.encode()).fetchone()[0]  # type: ignore[index]
                for name in names
            }

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """The rows of the source's tables."""
        return self.count("shop")


@contextmanager
def bench() -> Iterator[Bench]:
    """Start the server and fill the database."""
    with scratch_folder() as folder:
        rest = PgBackRest(folder / "rest") if pgbackrest.installed() else None
        postgres = PostgresServer(MAJOR, folder / "pg", settings=rest.settings if rest else {})
        with postgres:
            if rest:
                rest.introduce(postgres)
            postgres.create_role("clerk")
            postgres.create_database("shop")
            with postgres.connect("shop") as connection:
                connection.execute(_FILL.encode())
                connection.execute("grant connect on database shop to clerk")
            yield Bench(postgres, folder, rest)


__all__ = ["COLUMNS", "MAJOR", "RUN", "Bench", "Manifest", "bench", "flip", "quiet", "truncate"]
