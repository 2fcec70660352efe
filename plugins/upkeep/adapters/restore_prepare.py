"""What a scratch server must have before a dump is restored into it, and what of that this machine lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from upkeep.adapters import pg_restore
from upkeep.adapters.pg_tools import Programs
from upkeep.adapters.scratch_cluster import Cluster
from upkeep.core.backup import GLOBALS, Manifest
from upkeep.core.restore import Missing

if TYPE_CHECKING:
    import psycopg

# Not the source's own name, which may be that of a database that every server has.
DATABASE = "upkeep_restored"
_SHOWN = 10


class Wanted(NamedTuple):
    """What an archive's definitions expect to be there."""

    roles: set[str]
    database: pg_restore.Definition


class Prepared(NamedTuple):
    """What is lacking, what was left out on purpose, and the database's own settings, for when it is restored."""

    missing: list[Missing]
    notes: list[str]
    settings: list[str]


def read(programs: Programs, archive: Path) -> Wanted:
    """Read what an archive expects, with the programs that can. :raises DamagedError: its contents cannot be read."""
    return Wanted(pg_restore.named_roles(programs, archive), pg_restore.definition(programs, archive))


def prepare(cluster: Cluster, wanted: Wanted, archive: Path, manifest: Manifest) -> Prepared:
    """Make roles and the database as the source had them."""
    ready = Prepared([], [], [])
    with cluster.connect() as connection:
        ready.missing.extend(_extensions(connection, manifest.source.extensions))
        if not ready.missing:
            _roles(connection, wanted.roles, archive, manifest, ready)
            _database(connection, wanted.database, manifest, ready)
    return ready


def apply_settings(cluster: Cluster, settings: list[str]) -> list[str]:
    """Give the database the settings that the source's had (`search_path`); return those that it does not take."""
    import psycopg

    failed = []
    with cluster.connect() as connection:
        for setting in settings:
            try:
                connection.execute(f"alter database {DATABASE} {setting}".encode())
            except psycopg.Error as error:
                failed.append(f"{setting[:80]}: {error.diag.message_primary or error}")
    return failed


def _extensions(connection: psycopg.Connection[Any], wanted: dict[str, str]) -> list[Missing]:
    known = {row[0] for row in connection.execute("select name from pg_catalog.pg_available_extensions")}
    return [
        Missing(
            what="extension",
            name=name,
            message=f"the database uses extension {name} {version}, which the worker's PostgreSQL does not have",
            hint=f"install the package of extension {name} for this major version on the worker",
            stops=True,
        )
        for name, version in sorted(wanted.items())
        if name not in known
    ]


def _roles(
    connection: psycopg.Connection[Any], named: set[str], archive: Path, manifest: Manifest, ready: Prepared
) -> None:
    path = archive / GLOBALS
    if path.exists():
        report = pg_restore.apply_globals(connection, path.read_text(errors="replace"))
        ready.notes.extend(f"not carried out: {text}" for text in [*report.left_out, *report.failed][:_SHOWN])
    made = pg_restore.make_roles(connection, named)
    ready.missing.extend(
        Missing(
            what="role",
            name=name,
            message=f"role {name} owns something or is granted something, and is not beside the backup"
            + (f" ({manifest.roles})" if manifest.roles else ""),
            hint="let the role of the backup connection read all roles (pg_dumpall --globals-only)",
        )
        for name in made
    )


def _database(
    connection: psycopg.Connection[Any], made: pg_restore.Definition, manifest: Manifest, ready: Prepared
) -> None:
    import psycopg

    ready.settings.extend(made.settings)
    try:
        connection.execute(f"create database {DATABASE} with {made.options}".encode())
    except psycopg.Error as error:
        source = manifest.source
        ready.missing.append(
            Missing(
                what="collation",
                name=source.lc_collate,
                message=f"the database cannot be made as it was ({made.options}): {error.diag.message_primary};"
                " restored with collation C instead",
                hint="install the locale on the worker (locale-gen), or a PostgreSQL with ICU",
            )
        )
        connection.execute(
            psycopg.sql.SQL("create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'").format(
                psycopg.sql.Identifier(DATABASE), psycopg.sql.Literal(source.encoding)
            )
        )
