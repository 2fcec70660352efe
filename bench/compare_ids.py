"""Age of transaction and multixact ids: clusters moved ahead by `pg_resetwal`, healthy ones and ones that will stop.

A database is kept old the way it happens: something prepared and forgotten locks one of its tables, so that autovacuum,
which does its work meanwhile on everything else, never gets to freeze that one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from bench import compare_tools
from lab.postgres import PostgresServer
from tests.integration.database_bench import fresh_server, health
from upkeep.core.model import Severity

# Ids of one file of pg_xact and of pg_multixact/offsets: a cluster can be moved to the first of a file only.
XIDS, MULTIXACTS = 1_048_576, 65_536
_UNWATCHED = {"autovacuum_freeze_max_age": 2_000_000_000, "autovacuum_multixact_freeze_max_age": 2_000_000_000}
_WATCHED = {"autovacuum_freeze_max_age": 200_000_000, "autovacuum_multixact_freeze_max_age": 400_000_000}


@dataclass(frozen=True)
class Scene:
    """What a cluster looks like, whether somebody has to act, and how it is made from the one before."""

    what: str
    alarm: bool
    make: Callable[[PostgresServer], None]


def _at(xid: int, multixact: int = 5493, held: str = "") -> Callable[[PostgresServer], None]:
    """Move the next ids to the first of these files; autovacuum steps in at 200 and 400 million."""

    def make(pg: PostgresServer) -> None:
        _let_go(pg)
        pg.stop()
        ids = ["-x", str(xid * XIDS), "-m", f"{multixact * MULTIXACTS},1"]
        program = [str(pg.bin / "pg_resetwal"), *ids, str(pg.pgdata)]
        subprocess.run(program, check=True, capture_output=True, **pg.spawn_options())
        _start(pg, _UNWATCHED)
        # Only now: for an id in use from before the move the server would write pg_subtrans, gigabytes, up to here.
        _hold(pg, held)

    return make


def _hold(pg: PostgresServer, database: str) -> None:
    """Hold a database (if any), and let autovacuum see how old it all is."""
    if database:
        with _open(pg, database) as db:
            db.execute("BEGIN; LOCK TABLE held; PREPARE TRANSACTION 'held'")
    pg.stop()
    _start(pg, _WATCHED)


def _let_go(pg: PostgresServer) -> None:
    """Let autovacuum see nothing, and let go what was held."""
    pg.stop()
    _start(pg, _UNWATCHED)
    with pg.connect() as db:
        held = db.execute("SELECT database FROM pg_prepared_xacts").fetchall()
    for (database,) in held:
        with _open(pg, database) as db:
            db.execute("ROLLBACK PREPARED 'held'")


def _only_template0(pg: PostgresServer) -> None:
    """Hold the one that nobody may connect to, and freeze all others."""
    _let_go(pg)
    _freeze(pg, "claims", "postgres", "template1")
    _hold(pg, "template0")


def _multixacts(pg: PostgresServer) -> None:
    _let_go(pg)
    _freeze(pg, "template0", "claims", "postgres", "template1")
    _at(1701, 26_000, "claims")(pg)


def _freeze(pg: PostgresServer, *databases: str) -> None:
    for database in databases:
        with _open(pg, database) as db:
            db.execute("VACUUM (FREEZE)")


def _start(pg: PostgresServer, settings: dict[str, int]) -> None:
    pg.settings = pg.settings | settings
    pg.start()


@contextmanager
def _open(pg: PostgresServer, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection, also to template0, which nobody may connect to before and after."""
    with pg.connect() as admin:
        admin.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
        with pg.connect(database) as db:
            yield db
        admin.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false")


SCENES = (
    Scene("all at 0.90 of the age at which autovacuum freezes", False, _at(172)),
    Scene("all at 0.975 of it", False, _at(186)),
    Scene("one at 2.2 times that age: autovacuum cannot", True, _at(420, held="claims")),
    Scene("one at 59 % of 2^31", True, _at(1200, held="claims")),
    Scene("one at 83 % of 2^31", True, _at(1700, held="claims")),
    Scene("template0 alone at 83 % of 2^31", True, _only_template0),
    Scene("multixact ids of one at 62 % of 2^31", True, _multixacts),
)


def compare(major: int) -> None:
    """Make one scene after the other and ask everybody."""
    print(f"{'truth':8} {'ours':9} {'txn_wraparound':15} {'autovac_freeze':15}")
    with fresh_server(major) as pg:
        pg.create_database("claims")
        for database in ("claims", "template0"):
            with _open(pg, database) as db:
                db.execute("CREATE TABLE held (id int); INSERT INTO held VALUES (1)")
        for scene in SCENES:
            scene.make(pg)
            print(f"{'alarm' if scene.alarm else 'healthy':8} {_ours(pg):9} {_theirs(pg):31} {scene.what}", flush=True)


def _ours(pg: PostgresServer) -> str:
    judgement = health(pg.dsn()).run()
    worst = max(
        (f.severity for f in judgement.findings if f.check in ("wraparound", "multixact")),
        key=lambda severity: severity.rank,
        default=Severity.OK,
    )
    return worst.value


def _theirs(pg: PostgresServer) -> str:
    if not compare_tools.PROGRAM:
        return ""
    said = [compare_tools.check_postgres(pg, action)[0].lower() for action in ("txn_wraparound", "autovac_freeze")]
    return " ".join(f"{state:15}" for state in said)
