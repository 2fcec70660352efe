"""Age of transaction and multixact ids: clusters moved ahead by `pg_resetwal`, healthy ones and ones that will stop.

A database is kept old the way it happens: something prepared and forgotten locks one of its tables, so that autovacuum,
which does its work meanwhile on everything else, never gets to freeze that one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from bench import compare_tools
from lab.postgres import PostgresServer
from tests.integration.database_bench import fresh_server, health
from upkeep.core.model import Severity

# Ids of one file of pg_xact and of pg_multixact/offsets: a cluster can be moved to the first of a file only.
XIDS, MULTIXACTS = 1_048_576, 65_536
_HOLD = "BEGIN; LOCK TABLE held; PREPARE TRANSACTION 'held'"
_UNWATCHED = {"autovacuum_freeze_max_age": 2_000_000_000, "autovacuum_multixact_freeze_max_age": 2_000_000_000}
_WATCHED = {"autovacuum_freeze_max_age": 200_000_000, "autovacuum_multixact_freeze_max_age": 400_000_000}


@dataclass(frozen=True)
class Scene:
    """What a cluster looks like, whether somebody has to act, and how it is made from the one before."""

    what: str
    alarm: bool
    make: Callable[[PostgresServer], None]


def _at(xid: int, multixact: int = 5493) -> Callable[[PostgresServer], None]:
    """Move the next ids to the first of these files; autovacuum steps in at 200 and 400 million."""

    def make(pg: PostgresServer) -> None:
        pg.stop()
        ids = ["-x", str(xid * XIDS), "-m", f"{multixact * MULTIXACTS},1"]
        program = [str(pg.bin / "pg_resetwal"), *ids, str(pg.pgdata)]
        subprocess.run(program, check=True, capture_output=True, **pg.spawn_options())
        _start(pg, _WATCHED)

    return make


def _start(pg: PostgresServer, settings: dict[str, int]) -> None:
    pg.settings = pg.settings | settings
    pg.start()


def _overdue(pg: PostgresServer) -> None:
    with pg.connect("claims") as db:
        db.execute(_HOLD)
    _at(420)(pg)


def _only_template0(pg: PostgresServer) -> None:
    """Set the held database free, hold the one that nobody may connect to, freeze all others."""
    _release(pg, "claims")
    with pg.connect() as db:
        db.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
        with pg.connect("template0") as old:
            old.execute(_HOLD)
        db.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false")
    _freeze(pg, "claims", "postgres", "template1")
    pg.stop()
    _start(pg, _WATCHED)


def _multixacts(pg: PostgresServer) -> None:
    with pg.connect() as db:
        db.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    _release(pg, "template0")
    _freeze(pg, "template0", "claims", "postgres", "template1")
    with pg.connect("claims") as db:
        db.execute(_HOLD)
    _at(1701, 26_000)(pg)


def _release(pg: PostgresServer, database: str) -> None:
    pg.stop()
    _start(pg, _UNWATCHED)
    with pg.connect(database) as db:
        db.execute("ROLLBACK PREPARED 'held'")


def _freeze(pg: PostgresServer, *databases: str) -> None:
    for database in databases:
        with pg.connect(database) as db:
            db.execute("VACUUM (FREEZE)")


SCENES = (
    Scene("all at 0.90 of the age at which autovacuum freezes", False, _at(172)),
    Scene("all at 0.975 of it", False, _at(186)),
    Scene("one at 2.2 times that age: autovacuum cannot", True, _overdue),
    Scene("one at 59 % of 2^31", True, _at(1200)),
    Scene("one at 83 % of 2^31", True, _at(1700)),
    Scene("template0 alone at 83 % of 2^31", True, _only_template0),
    Scene("multixact ids of one at 62 % of 2^31", True, _multixacts),
)


def compare(major: int) -> None:
    """Make one scene after the other and ask everybody."""
    print(f"{'truth':8} {'ours':9} {'txn_wraparound':15} {'autovac_freeze':15}")
    with fresh_server(major) as pg:
        pg.create_database("claims")
        with pg.connect() as db:
            db.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
            for database in ("claims", "template0"):
                with pg.connect(database) as there:
                    there.execute("CREATE TABLE held (id int); INSERT INTO held VALUES (1)")
            db.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false")
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
