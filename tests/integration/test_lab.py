"""The lab's promises: real servers that start, die and come back; data that are the same every time; exact faults."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import signal
import smtplib
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date
from email.message import EmailMessage
from pathlib import Path

import psycopg
import pytest
import yaml

from lab import wheels
from lab.embedded import Lab
from lab.faults import PLANTERS, planted_faults
from lab.keeper import HOLDERS, LOCKER, WAITERS
from lab.mail import SmtpServer
from lab.object_store import ObjectStoreServer
from lab.postgres import PostgresServer
from lab.process import LabError, birth, end, free_ports, scratch_folder
from lab.run import CADENCES
from lab.seed import fingerprint, seed_database
from lab.systems import SYSTEMS, system

SCALE = 0.05


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Give a folder that the database server's user can reach."""
    with scratch_folder() as made:
        yield made


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    """Give a small lab with its faults, started by the command line in a process of its own."""
    made = Lab(folder / "lab", SCALE)
    try:
        _command(made.home, "up")
        yield Lab(made.home, SCALE)
    finally:
        Lab(made.home, SCALE).down()


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """Give a running PostgreSQL 18."""
    with PostgresServer(18, folder / "postgres") as server:
        yield server


def _command(home: Path, *words: str, status: int = 0) -> None:
    env = {**os.environ, "LAB_SCALE": str(SCALE)}
    command = [sys.executable, "-m", "lab", *words, "--home", str(home)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == status, done.stderr


def _value(connection: psycopg.Connection, statement: str, *parameters: object) -> object:
    row = connection.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("major", wheels.MAJORS)
def test_every_major_starts(major: int, folder: Path) -> None:
    """Each supported major starts with checksums, UTF-8 and pg_stat_statements, and knows itself."""
    with PostgresServer(major, folder / f"major-{major}") as server, server.connect() as connection:
        assert connection.info.server_version // 10000 == major
        assert _value(connection, "SHOW data_checksums") == "on"
        assert _value(connection, "SHOW server_encoding") == "UTF8"
        assert _value(connection, "SELECT 'Ä' = upper('ä')") is True
        connection.execute("CREATE EXTENSION pg_stat_statements")
        connection.execute("SELECT count(*) FROM pg_stat_statements")


def test_programs_are_unpacked_once_by_many(folder: Path) -> None:
    """Processes that want the same programs at once all get whole ones, and no rest of an unpacking stays."""
    env = {**os.environ, "UPKEEP_LAB_CACHE": str(folder / "cache")}
    code = (
        "from lab.wheels import bin; import subprocess; subprocess.run([bin(18) / 'pg_dump', '--version'], check=True)"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]
    assert [path.name for path in (folder / "cache").glob("*postgresql-18*") if path.is_dir()] == [
        f"postgresql-{wheels._version(18)}"
    ]


def test_a_cache_others_can_write_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are not started from a folder in which anybody could have put them."""
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("UPKEEP_LAB_CACHE", str(shared))
    with pytest.raises(LabError, match="others cannot write"):
        wheels.lab_root()


def test_postgres_survives_a_kill(postgres: PostgresServer) -> None:
    """After SIGKILL of all its processes the server is gone at once, and comes back on its port with its data."""
    with postgres.connect() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    port, pid = postgres.port, postgres.pid
    postgres.kill()
    assert not postgres.alive
    with pytest.raises(psycopg.OperationalError):
        postgres.connect()
    postgres.start()
    assert postgres.port == port and postgres.pid != pid
    with postgres.connect() as connection:
        assert _value(connection, "SELECT answer FROM kept") == 42


def test_a_running_server_is_found_again(postgres: PostgresServer) -> None:
    """A second object for the same folder sees the server that runs and does not start another."""
    other = PostgresServer(18, postgres.data_dir)
    assert other.alive and other.start().pid == postgres.pid
    assert other.dsn() == postgres.dsn()


def test_settings_and_port_are_the_callers(folder: Path) -> None:
    """A given port and given settings win, and new settings hold from the next start on."""
    port = free_ports(1)[0]
    with PostgresServer(18, folder / "set", port, {"work_mem": "3MB", "fsync": "on"}) as server:
        assert server.port == port
        with server.connect() as connection:
            assert (_value(connection, "SHOW work_mem"), _value(connection, "SHOW fsync")) == ("3MB", "on")
    with PostgresServer(18, folder / "set", port, {"work_mem": "5MB"}) as server, server.connect() as connection:
        assert _value(connection, "SHOW work_mem") == "5MB"


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """A refused setting ends in an error that carries the server's own words."""
    with pytest.raises(LabError, match="nonsense"):
        PostgresServer(18, folder / "broken", settings={"nonsense": 1}).start()


def test_only_loopback_listens(postgres: PostgresServer) -> None:
    """The database listens on loopback alone, and wants a password."""
    with postgres.connect() as connection:
        assert _value(connection, "SHOW listen_addresses") == "127.0.0.1"
        assert _value(connection, "SHOW unix_socket_directories") == ""
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.dsn().replace(postgres.password(), "wrong"))
    assert (postgres.data_dir / "passwords.json").stat().st_mode & 0o077 == 0


def test_another_process_with_the_same_id_is_left_alone() -> None:
    """Ending looks at the birth of a process, too, since ids are used again."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        end(sleeper.pid, "another birth", PostgresServer.stop_steps)
        assert sleeper.poll() is None
        born = birth(sleeper.pid)
        assert born
        end(sleeper.pid, born, PostgresServer.stop_steps)
        assert birth(sleeper.pid) is None


def test_object_store_verifies_checksums_and_survives_a_kill(folder: Path) -> None:
    """A wrong SHA-256 is refused and nothing is kept; a right one is given back, also after SIGKILL."""
    from botocore.exceptions import ClientError

    body, other = b"x" * (6 << 20), b"y"
    right, wrong = (base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (body, other))
    with ObjectStoreServer(folder / "s3", buckets=["proofs"]) as store:
        s3 = store.client()
        with pytest.raises(ClientError, match="BadDigest"):
            s3.put_object(Bucket="proofs", Key="bad", Body=body, ChecksumSHA256=wrong)
        upload = s3.create_multipart_upload(Bucket="proofs", Key="parts", ChecksumAlgorithm="SHA256")["UploadId"]
        part = {"Bucket": "proofs", "Key": "parts", "UploadId": upload, "PartNumber": 1, "Body": body}
        with pytest.raises(ClientError, match="BadDigest"):
            s3.upload_part(**part, ChecksumSHA256=wrong)
        assert s3.upload_part(**part, ChecksumSHA256=right)["ChecksumSHA256"] == right
        s3.put_object(Bucket="proofs", Key="good", Body=body, ChecksumSHA256=right)
        store.kill()
        assert not store.alive
        store.start()
        head = s3.head_object(Bucket="proofs", Key="good", ChecksumMode="ENABLED")
        assert head["ChecksumSHA256"] == right
        assert [one["Key"] for one in s3.list_objects_v2(Bucket="proofs")["Contents"]] == ["good"]


def test_mails_and_hooks_are_kept(folder: Path) -> None:
    """What was sent by SMTP or posted to the webhook can be read back in order, over a restart."""
    with SmtpServer(folder / "mail") as server:
        for number in (1, 2):
            mail = EmailMessage()
            mail["Subject"], mail["From"], mail["To"] = f"Grüße {number}", "a@example.com", "b@example.com"
            mail.set_content("text")
            with smtplib.SMTP("127.0.0.1", server.port, timeout=5) as smtp:
                smtp.send_message(mail)
            server.stop()
            server.start()
        urllib.request.urlopen(f"{server.hook_url}/alert", data=b'{"rung": 1}', timeout=5).close()
        assert [mail["Subject"] for mail in server.mails()] == ["Grüße 1", "Grüße 2"]
        assert server.mails()[0]["X-Envelope-To"] == "b@example.com"
        assert [(hook["path"], json.loads(hook["body"])) for hook in server.hooks()] == [("/alert", {"rung": 1})]


@pytest.mark.parametrize("name", [one.name for one in SYSTEMS])
def test_two_seeds_are_equal(name: str, postgres: PostgresServer, lab: Lab) -> None:
    """The same scale and day give the same rows, on another server and another major as well."""
    one = system(name)
    with lab.clusters[one.cluster].connect(one.database) as connection:
        known = fingerprint(connection)
        today = _value(connection, "SELECT current_date")
    assert isinstance(today, date)
    assert seed_database(postgres, one, SCALE, today) and not seed_database(postgres, one, SCALE, today)
    with postgres.connect(one.database) as connection:
        assert fingerprint(connection) == known
    assert len(known) >= 5 and min(rows for rows, _ in known.values() if rows) > 0


@pytest.mark.parametrize("name", [one.name for one in SYSTEMS])
def test_the_maintenance_role_reads_everything_and_changes_nothing(name: str, lab: Lab, folder: Path) -> None:
    """One least-privileged role is enough for a whole dump, large objects included; it can write nothing.

    The role that cares for the tables may vacuum them, sees all sessions, and is kept to its database just as well.
    """
    one = system(name)
    server = lab.clusters[one.cluster]
    target = folder / f"{name}.dump"
    dump = [server.bin / "pg_dump", "--format=custom", f"--file={target}", server.dsn(one.database, one.keeper)]
    done = subprocess.run(dump, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listed = subprocess.run([server.bin / "pg_restore", "--list", target], capture_output=True, text=True, check=True)
    assert ("BLOB" in listed.stdout) is (name == "claims")
    with lab.connect(name) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("CREATE TABLE public.mine (id int)")
    with server.connect(one.database, one.carer) as connection:
        assert _value(connection, "SELECT pg_has_role('pg_monitor', 'usage')")
        for table in list(fingerprint(connection))[:1]:
            connection.execute(f"VACUUM {table}".encode())
    others = {other.database for other in SYSTEMS if other.cluster == one.cluster} - {one.database}
    for other in others:
        for role in (one.keeper, one.carer):
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                server.connect(other, role)


def test_exactly_the_listed_faults_are_planted(lab: Lab) -> None:
    """Each entry of faults.yaml can be seen from outside, has its planter, and every planter its entry."""
    assert {fault.planted_by for fault in planted_faults()} == PLANTERS.keys()
    assert len({fault.id for fault in planted_faults()}) == len(planted_faults())
    assert {cadence for fault in planted_faults() for cadence in fault.cadences} == set(CADENCES)
    assert _faults_seen(lab) == {
        "sequence": 0.92, "sessions": {*HOLDERS, *WAITERS, LOCKER}, "monitor": {"molecular"},
        "degraded": {("campus", "/health/detailed")},
    }  # fmt: skip
    assert _care_faults_seen(lab) == {
        "twins": 1, "invalid": ["students_name_once"], "empty": True, "unwatched": ["attendance_older"], "lost": 1,
        "scale_factor": "0.3", "waiting": ["max_connections"], "limit": True,
    }  # fmt: skip


def test_up_again_changes_nothing_and_faults_can_be_taken_away(lab: Lab) -> None:
    """A second `up` keeps every process; `--no-faults` leaves the systems well; a third `up` plants anew."""
    before = {name: one["pid"] for name, one in lab.status().items()}
    _command(lab.home, "up", "--no-faults")
    again = Lab(lab.home, SCALE)
    assert _faults_seen(again) == {"sequence": 0.0, "sessions": set(), "monitor": set(), "degraded": set()}
    assert _care_faults_seen(again) == {
        "twins": 0, "invalid": [], "empty": False, "unwatched": [], "lost": 0,
        "scale_factor": "0.1", "waiting": [], "limit": False,
    }  # fmt: skip
    _command(lab.home, "up")
    after = {name: one["pid"] for name, one in Lab(lab.home, SCALE).status().items()}
    assert {name for name in after if after[name] != before[name]} == {"keeper"}


def _faults_seen(lab: Lab) -> dict[str, object]:
    with lab.connect("claims", as_owner=True) as connection:
        used = _value(connection, "SELECT round(last_value / 2147483647.0, 2)::float8 FROM claims_claim_id_seq")
    with lab.connect("cardiology") as connection:
        names = connection.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND (state = 'idle in transaction' OR wait_event_type = 'Lock')"
        ).fetchall()
    without = set()
    for one in SYSTEMS:
        with lab.connect(one.name) as connection:
            if not _value(connection, "SELECT pg_has_role('pg_monitor', 'member')"):
                without.add(one.name)
    return {
        "sequence": used, "sessions": {str(name) for (name,) in names}, "monitor": without,
        "degraded": {place for place, (status, body) in _health(lab).items() if status != 200 or "healthy" not in body},
    }  # fmt: skip


def _care_faults_seen(lab: Lab) -> dict[str, object]:
    with lab.connect("molecular") as connection:
        twins = _value(connection, "SELECT count(*) FROM pg_indexes WHERE indexname = 'molecules_mass_again'")
        scale_factor = _value(connection, "SHOW autovacuum_vacuum_scale_factor")
    with lab.connect("campus") as connection:
        invalid = _values(connection, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
        off = "SELECT relname FROM pg_class WHERE 'autovacuum_enabled=off' = ANY (reloptions)"
        unwatched = _values(connection, off)
        waiting = _values(connection, "SELECT name FROM pg_settings WHERE pending_restart")
    with lab.connect("student") as connection:
        a_row = "SELECT pg_relation_size('notifications_pkey') / max(id) FROM notifications"
        empty = int(str(_value(connection, a_row))) > 500  # bytes; a full index has 20 to 50
    with closing(sqlite3.connect(lab.sqlite_file)) as db:
        lost = len(db.execute("PRAGMA foreign_key_check").fetchall())
    file = yaml.safe_load((lab.system_files / "campus.yaml").read_text())
    limit = file["settings"]["capacity.database"]["limit_bytes"]
    return {
        "twins": twins, "invalid": invalid, "empty": empty, "unwatched": unwatched, "lost": lost,
        "scale_factor": scale_factor, "waiting": waiting, "limit": limit != "20 GB",
    }  # fmt: skip


def _values(connection: psycopg.Connection, statement: str) -> list[object]:
    return [value for (value,) in connection.execute(statement).fetchall()]


def _health(lab: Lab) -> dict[tuple[str, str], tuple[int, str]]:
    paths = {
        "claims": ["/health", "/api/health"], "molecular": ["/health"],
        "student": ["/health", "/api/notifications/health"],
        "cardiology": [f"/health/{part}" for part in ("database", "api", "storage", "authentication")],
        "campus": ["/health", "/health/detailed"],
    }  # fmt: skip
    places = [(name, path) for name, some in paths.items() for path in some]
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(places, pool.map(lambda place: _get(lab, *place), places), strict=True))


def _get(lab: Lab, name: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", lab.web.ports[name], timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_health_is_asked_of_the_database(lab: Lab) -> None:
    """A service is healthy only while its database answers, and is again after the database came back."""
    assert _get(lab, "campus", "/health")[0] == 200
    lab.clusters["campus"].kill()
    status, body = _get(lab, "campus", "/health")
    assert (status, json.loads(body)["status"]) == (503, "down")
    lab.clusters["campus"].start()
    assert _get(lab, "campus", "/health")[0] == 200
    assert _get(lab, "claims", "/health")[0] == 200


def test_services_write_logs_and_open_them_anew(lab: Lab) -> None:
    """A request is a line of nginx's log; after a rename and a signal the next ones go to a new file, but a deaf one's.

    The lab's own signal reaches that one, too.
    """
    _get(lab, "campus", "/health?told")
    file = lab.home / "campus/logs/nginx/access.log"
    _until(lambda: ' "GET /health HTTP/1.1" 200 ' in file.read_text().splitlines()[-1])
    pid = int((lab.home / "campus/run/nginx.pid").read_text())
    assert pid == lab.web.pid
    deaf = lab.home / "molecular/logs/api.log"
    for log in (file, deaf):
        log.rename(log.with_name("renamed"))
    os.kill(pid, signal.SIGUSR1)
    _until(file.exists)
    _get(lab, "campus", "/health")
    assert "/health" in file.read_text() and not deaf.exists()
    os.kill(pid, signal.SIGUSR2)
    _until(deaf.exists)


def test_models_answer_and_the_index_knows_packages(lab: Lab) -> None:
    """The services answer from the trained models; the newest version of a package is the lab's to say."""
    body = json.dumps({"amount": 9000.0, "age": 41, "incidents": 4, "policy_kind": "motor"}).encode()
    answer = json.loads(urllib.request.urlopen(f"{lab.web.url('claims')}/api/predict", data=body, timeout=5).read())
    assert answer["model"] == "risk-3.2.0" and answer["probability"] > 0.9
    index = lab.environment()["UV_DEFAULT_INDEX"]
    found = json.loads(urllib.request.urlopen(f"{index}/sqlalchemy/", timeout=5).read())
    assert {"1.4.54", "2.0.37"} <= {*found["versions"]}


def test_stray_databases_come_and_go(lab: Lab) -> None:
    """The old one is the fault; the fresh one belongs to a test that runs."""
    folder = lab.home / "student/scratch"
    ages = {file.name: time.time() - file.stat().st_mtime for file in folder.glob("test_*.db")}
    assert ages["test_import.db"] > 10 * 86_400 and ages["test_today.db"] < 86_400
    PLANTERS["stray_database"](lab, False)
    assert {file.name for file in folder.iterdir()} == {"test_today.db"}
    PLANTERS["stray_database"](lab, True)


def _until(true: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_environment_reaches_everything(lab: Lab) -> None:
    """A shell that sources the file gets connections that work, and nobody else can read the file."""
    file = lab.home / "environment"
    assert file.stat().st_mode & 0o077 == 0 and (lab.home / "lab.json").stat().st_mode & 0o077 == 0
    printed = subprocess.run(["sh", "-c", f". {file}; env -0"], capture_output=True, text=True, check=True).stdout
    variables = dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)
    found = {
        name.removeprefix("AIRFLOW_CONN_").lower(): json.loads(value)
        for name, value in variables.items()
        if name.startswith("AIRFLOW_CONN_")
    }
    expected = {f"{one.name}_{part}" for one in SYSTEMS for part in ("db", "maintenance", "restore", "web")}
    expected |= {f"{one.name}_redis" for one in SYSTEMS if one.redis}
    expected |= {f"{one.name}_physical" for one in SYSTEMS if one.copied}
    assert found.keys() == expected | {
        "upkeep_ledger",
        "upkeep_store",
        "upkeep_backup_key",
        "upkeep_smtp",
        "upkeep_webhook",
    }
    assert variables["UPKEEP_LAB_HOME"] == str(lab.home)
    key = lab.home / "backup-key.json"
    assert json.loads(key.read_text()) == found["upkeep_backup_key"]["extra"] and key.stat().st_mode & 0o077 == 0
    for given in (one for one in found.values() if one["conn_type"] == "postgres"):
        keys = {"host": "host", "port": "port", "user": "login", "password": "password", "dbname": "schema"}
        psycopg.connect(**{key: given[field] for key, field in keys.items()}).close()


def test_down_ends_what_up_started(lab: Lab) -> None:
    """After `down` none of the processes lives, and `status` says so."""
    pids = {name: one["pid"] for name, one in lab.status().items()}
    _command(lab.home, "down")
    assert [name for name, pid in pids.items() if birth(pid)] == []
    _command(lab.home, "status", status=1)
