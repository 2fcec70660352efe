"""Database health on servers that are killed, damaged, worn out, slow or left behind, of every major."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from lab.postgres import PostgresServer
from lab.process import LabError, scratch_folder
from tests.integration.database_bench import MAJORS, database, found, fresh_server, health, troubles, until, value
from upkeep.core.model import Severity

each_major = pytest.mark.parametrize("major", MAJORS, ids=lambda major: f"pg{major}")


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"pg{major}")
def pg(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server that may be wrecked, as long as it can be started again."""
    # So slow that autovacuum does not cure old ids before we look; `test_ids_that_run_out` provokes it.
    slow: dict[str, str | int] = {"autovacuum_vacuum_cost_delay": "100ms", "autovacuum_vacuum_cost_limit": 1}
    with fresh_server(request.param, **slow) as started:
        yield started


def test_a_server_killed_in_the_middle(pg: PostgresServer):
    """SIGKILL while our batch waits: what was answered is judged, the rest is named, `reachable` is critical."""
    bench = health(pg.dsn("claims"))
    with database(pg) as db, contextlib.closing(pg.connect("claims")) as locker:
        locker.execute("BEGIN")
        locker.execute("ALTER SEQUENCE claim_id_seq RESTART 7")  # the statement about sequences now waits

        def kill() -> None:
            ours = "SELECT 1 FROM pg_stat_activity WHERE application_name ~ '^upkeep' AND wait_event_type = 'Lock'"
            until(lambda: db.execute(ours).fetchone(), "our waiting")
            pg.kill()

        with ending(threading.Thread(target=kill)):
            judgement = bench.run(lock_timeout=10)
        pg.start()
    gone = found(judgement, "reachable")
    assert gone.severity is Severity.CRITICAL
    assert "sequences" in gone.message and "connections in use" not in gone.message
    assert troubles(judgement) == [gone]
    assert value(judgement, "connections.used") > 0
    assert value(judgement, "query_time.median") > 0


def test_a_server_that_is_down(pg: PostgresServer):
    """No server is a finding, not an exception; one that comes back within the patience is none."""
    bench = health(pg.dsn())
    pg.stop()
    down = found(bench.run(), "reachable")
    assert down.severity is Severity.CRITICAL and "refused" in down.message
    late = threading.Timer(0.3, pg.start)
    with ending(late):
        assert troubles(bench.run(reach_seconds=30)) == []  # back in time: nobody is called


def test_damaged_data(pg: PostgresServer):
    """A flipped byte in a data file, once read, is critical and stays so in every later look."""
    with database(pg) as db:
        [relation] = db.execute("SELECT pg_relation_filepath('claim')").fetchone() or ()
        db.execute("CHECKPOINT")
        pg.stop()
        flip(pg.pgdata / relation, 8192 + 4000)
        pg.start()
        bench = health(pg.dsn("claims"))
        assert troubles(bench.run()) == []  # nobody has read it yet
        with pg.connect("claims") as reader, pytest.raises(psycopg.errors.DataCorrupted):
            reader.execute("SELECT sum(length(note)) FROM claim")
        until(lambda: any(f.check == "checksum" for f in bench.run().findings), "the count")
        damaged = found(bench.run(), "checksum", "claims")
        assert damaged.severity is Severity.CRITICAL and int(damaged.observed) >= 1
        assert [f for f in health(pg.dsn()).run().findings if f.check == "checksum"] == []  # another database's


def test_ids_that_run_out(pg: PostgresServer):
    """Old transaction and multixact ids of any database are found from anywhere; while they fall it is only info."""
    with database(pg):
        age_ids(pg, xid=1200 * 1_048_576, multixact=18_000 * 65_536)
        bench = health(pg.dsn())
        judgement = bench.run()
        for check in ("wraparound", "multixact"):
            assert found(judgement, check, "claims").severity is Severity.WARNING
            assert found(judgement, check, "template0").severity is Severity.WARNING
        assert found(bench.run(wraparound={"critical": 55}), "wraparound", "claims").severity is Severity.CRITICAL
        bench.history.kept = {
            key: type(kept)(kept.at, kept.value + 1_000_000) for key, kept in bench.history.kept.items()
        }
        falling = found(bench.run(), "wraparound", "claims")
        assert falling.severity is Severity.INFO and "falling" in falling.message


@each_major
def test_a_standby(major: int):
    """Seen from both ends: fine, paused, behind, cut off; an idle primary is no lag."""
    with fresh_server(major) as primary, standby_of(primary) as standby, database(primary) as db:
        db.execute("SELECT pg_create_physical_replication_slot('spare')")
        front, back = health(primary.dsn("claims")), health(standby.dsn())
        until(lambda: standing(standby), "streaming")
        assert troubles(front.run(replicas=1)) == []
        until(lambda: troubles(back.run(replication_delay={"warning": 0.001})) == [], "no delay on an idle primary")
        assert value(front.run(), "replication.lag", "walreceiver") >= 0
        with contextlib.closing(psycopg.connect(standby.dsn(), autocommit=True)) as other_end:
            other_end.execute("SELECT pg_wal_replay_pause()")
            db.execute("UPDATE claim SET note = 'far behind'")
            behind = {"replication_bytes": {"warning": 1000}}
            until(lambda: any(f.check == "replication" for f in front.run(**behind).findings), "the lag")
            assert found(front.run(**behind), "replication", "standby walreceiver").severity is Severity.WARNING
            until(lambda: len(troubles(back.run(**behind))) == 2, "pause and lag")
            assert {f.subject for f in troubles(back.run(**behind))} == {"paused", "replay"}
            other_end.execute("SELECT pg_wal_replay_resume()")
        standby.kill()
        until(lambda: troubles(front.run(replicas=1)), "the loss")
        assert found(front.run(replicas=1), "replication", "connected").severity is Severity.CRITICAL
        standby.start()
        primary.kill()
        until(lambda: troubles(back.run()), "the end of the receiver")
        assert found(back.run(), "replication", "receiver").severity is Severity.WARNING
        primary.start()


def test_a_slow_way_to_the_server():
    """Sixty milliseconds of delay cross the guides' limit of fifty, with no setting changed."""
    with fresh_server(18) as pg, slow_way(pg.port, 0.06) as port:
        slow = health(pg.dsn().replace(f":{pg.port}/", f":{port}/")).run()
        assert found(slow, "query_time").severity is Severity.WARNING
        assert value(slow, "query_time.p95") >= value(slow, "query_time.median") >= 50
        assert troubles(health(pg.dsn()).run()) == []


@contextlib.contextmanager
def ending(thread: threading.Thread) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        thread.join()


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    with file.open("r+b") as out:
        out.write(data)


def age_ids(pg: PostgresServer, *, xid: int, multixact: int) -> None:
    """Move the next ids of a stopped cluster far ahead, to the first of a segment of pg_xact and pg_multixact."""
    pg.stop()
    program = [str(pg.bin / "pg_resetwal"), "-x", str(xid), "-m", f"{multixact},1", str(pg.pgdata)]
    done = subprocess.run(program, check=False, capture_output=True, text=True, **pg.spawn_options())
    assert done.returncode == 0, done.stderr
    pg.start()


class Standby(PostgresServer):
    """A server that is ready when it answers, although it stays in recovery."""

    def check_ready(self) -> None:
        with contextlib.suppress(LabError):
            super().check_ready()


@contextlib.contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Give a standby that streams from `primary`."""
    with scratch_folder() as folder:
        folder.chmod(0o777)  # pg_basebackup runs as the server's user
        program = [str(primary.bin / "pg_basebackup"), "-d", primary.dsn(), "-D", str(folder / "pgdata")]
        done = subprocess.run(
            [*program, "-c", "fast", "--no-sync"],
            check=False,
            capture_output=True,
            text=True,
            **primary.spawn_options(),
        )
        assert done.returncode == 0, done.stderr
        shutil.copy(primary.data_dir / "passwords.json", folder)
        (folder / "pgdata/standby.signal").touch()
        # Not pg_basebackup -R: it writes options of its own libpq, which the server's may not know.
        follow = {"primary_conninfo": primary.dsn(), "wal_retrieve_retry_interval": "100ms"}
        with Standby(primary.major, folder, settings=primary.settings | follow) as started:
            yield started


def standing(standby: PostgresServer) -> bool:
    with standby.connect() as connection:
        return connection.execute("SELECT status FROM pg_stat_wal_receiver").fetchone() == ("streaming",)


@contextlib.contextmanager
def slow_way(port: int, seconds: float) -> Iterator[int]:
    """Give a port that leads to another one, what is sent arriving late."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_lead, args=(listening, port, seconds), daemon=True).start()
        yield listening.getsockname()[1]


def _lead(listening: socket.socket, port: int, seconds: float) -> None:
    with contextlib.suppress(OSError):
        while True:
            one, other = listening.accept()[0], socket.create_connection(("127.0.0.1", port))
            for source, target, late in ((one, other, seconds), (other, one, 0.0)):
                threading.Thread(target=_carry, args=(source, target, late), daemon=True).start()


def _carry(source: Any, target: Any, late: float) -> None:
    with contextlib.suppress(OSError), source, target:
        while data := source.recv(65536):
            time.sleep(late)
            target.sendall(data)
