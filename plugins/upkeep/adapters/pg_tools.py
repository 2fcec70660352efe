"""PostgreSQL's own client programs: found in the right version, run, and their words turned into errors."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from upkeep.adapters.process import Done, Program, environment, run
from upkeep.core.backup import SequenceValue
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError, UpkeepError

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:[.\w]*)")
_FULL_VERSION = re.compile(r"\(PostgreSQL\) (\S+)")
_USUAL_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
# An entry of `pg_restore --list`: dump id; OID of the catalogue, OID of the object, then kind and names.
_ENTRY = re.compile(r"(\d+); (\d+) (\d+) (.*)")
_DATA_KINDS = ("TABLE DATA", "SEQUENCE SET", "BLOBS")
_SETVAL = re.compile(r"^SELECT pg_catalog\.setval\((E?)'((?:[^']|'')*)', (-?\d+), (true|false)\);$", re.M)
_COPY, _COPY_END, _COPY_BEGINS = b"\nCOPY ", b"\n\\.\n", b" FROM stdin;\n"

_COMPLAINT = re.compile(r"\b(error|fatal|detail|hint|ERROR|FATAL|PANIC)\b:")
# pg_dump's own default: above it, gzip takes much longer for little.
_GZIP_LEVEL = 6
_FULL = "free space there, or point UPKEEP_SCRATCH_DIR to a larger disk; it is tried again"
_TROUBLE: tuple[tuple[str, type[UpkeepError], str], ...] = (
    (
        "row-level security",
        ConfigurationError,
        "dump as the tables' owner or a role with BYPASSRLS: policies hide rows",
    ),
    (
        "permission denied for large object",
        ConfigurationError,
        "GRANT SELECT ON LARGE OBJECT ... TO the role (pg_read_all_data does not cover them), or back up as superuser",
    ),
    ("permission denied", ConfigurationError, "GRANT pg_read_all_data TO the role of the backup connection"),
    ("authentication failed", ConfigurationError, "correct login and password of the Airflow connection"),
    ("no password supplied", ConfigurationError, "put a password into the Airflow connection"),
    ("server version mismatch", ConfigurationError, "install PostgreSQL client programs of the server's version"),
    ("max_locks_per_transaction", ConfigurationError, "raise max_locks_per_transaction: a dump locks every table"),
    ("No space left on device", TransientError, _FULL),
    ("Disk quota exceeded", TransientError, _FULL),
    ("File too large", TransientError, _FULL),
    # --lock-wait-timeout is a statement_timeout while pg_dump locks its tables.
    ("statement timeout", TransientError, "somebody holds or awaits an exclusive lock; it is tried again"),
    ("lock timeout", TransientError, "somebody holds or awaits an exclusive lock; it is tried again"),
    ("could not obtain lock", TransientError, "somebody awaits an exclusive lock (DDL, TRUNCATE); it is tried again"),
)


class Entry(NamedTuple):
    """One entry of an archive's table of contents; `kind` is empty for whatever holds no data."""

    dump_id: int
    oid: int
    kind: str


class Programs(NamedTuple):
    """Client programs of one version in one folder."""

    folder: Path
    major: int
    version: str

    def path(self, name: str) -> Path:
        """Return the path of a program."""
        return self.folder / name


def find(server_version: int, folders: str = "") -> Programs:
    """Return client programs that can dump this server: of its major version, or else the next newer there is.

    :param server_version: `server_version_num` (160004).
    :param folders: where to look (separated like PATH) instead of UPKEEP_PG_BIN, PATH and the usual places.
    :raises ConfigurationError: there are none.
    """
    major = server_version // 10_000
    given = folders or os.environ.get("UPKEEP_PG_BIN", "")
    places = [Path(p) for p in (given or os.environ.get("PATH", "")).split(os.pathsep) if p]
    if not given:
        places += sorted(p for pattern in _USUAL_PLACES for p in Path("/").glob(pattern.lstrip("/")))
    known = [programs for place in dict.fromkeys(places) if (programs := _programs(place))]
    fitting = [p for p in known if p.major >= major]
    if not fitting:
        seen = ", ".join(sorted({p.version for p in known})) or "none"
        raise ConfigurationError(
            f"pg_dump {major} or newer is needed for this server; found {seen}"
            + (f" in {given}" if given else " on PATH"),
            f"install postgresql-client-{major} or set UPKEEP_PG_BIN to its folder",
        )
    return min(fitting, key=lambda p: p.major)


@functools.lru_cache(maxsize=64)
def _programs(folder: Path) -> Programs | None:
    program = folder / "pg_dump"
    if not os.access(program, os.X_OK):
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    major, full = _VERSION.search(said), _FULL_VERSION.search(said)
    return Programs(folder, int(major[1]), full[1]) if major and full else None


@functools.lru_cache(maxsize=64)
def compression(programs: Programs, level: int, long_window: bool = False) -> str:
    """Return the value of `--compress`: zstd where this pg_dump has it (16 on, when built with it), else gzip."""
    if programs.major < 16:
        return str(min(level, _GZIP_LEVEL))
    zstd = f"zstd:level={level},long" if long_window else f"zstd:{level}"
    # pg_dump checks the method before it connects; the connection is one that cannot come about.
    command: list[str | Path] = [
        programs.path("pg_dump"),
        "-Fc",
        f"--compress={zstd}",
        "-f",
        os.devnull,
        "host=/nonexistent",
    ]
    done, _ = run(command)
    return f"gzip:{min(level, _GZIP_LEVEL)}" if any("not support compression" in line for line in done.errors) else zstd


class Access(NamedTuple):
    """How a program reaches the database: a connection string without secrets, the secret in the environment."""

    conninfo: str
    env: dict[str, str]
    database: str


def access(conninfo: str, application_name: str) -> Access:
    """Split a connection string: command lines are readable by every user of the machine, environments are not."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts: dict[str, Any] = dict(conninfo_to_dict(conninfo))
    password = parts.pop("password", None)
    parts.pop("sslpassword", None)
    # Time-outs that role or database set for applications must not end a dump of hours.
    options = f"{parts.pop('options', '')} -c statement_timeout=0 -c idle_in_transaction_session_timeout=0".strip()
    safe = make_conninfo(**{**parts, "options": options, "application_name": application_name})
    database = str(parts.get("dbname") or parts.get("user") or "")
    return Access(safe, environment(**({"PGPASSWORD": str(password)} if password else {})), database)


def dump_command(
    programs: Programs, reach: Access, into: Path, *, snapshot: str, jobs: int, compress: str, lock_timeout: float
) -> list[str]:
    """Return the command line that dumps the database of `reach`, as seen in an exported snapshot, into a folder.

    Without --no-sync, pg_dump would flush to the disk what is uploaded and removed a moment later.
    """
    return [
        str(programs.path("pg_dump")),
        "--format=directory",
        f"--jobs={jobs}",
        f"--compress={compress}",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={round(lock_timeout * 1000)}",
        "--no-password",
        "--no-sync",
        "--verbose",
        f"--file={into}",
        f"--dbname={reach.conninfo}",
    ]


def globals_of(programs: Programs, reach: Access) -> tuple[bytes, str]:
    """Return roles and tablespaces as SQL, without passwords, and why there are none (empty when there are)."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    parts: dict[str, Any] = dict(conninfo_to_dict(reach.conninfo))
    parts.pop("dbname", None)
    command: list[str | Path] = [
        programs.path("pg_dumpall"),
        "--globals-only",
        "--no-role-passwords",
        "--no-password",
        # Not "postgres", its default: the role may be let into this database only.
        # As a connection string: a bare name like "a=b" or "postgresql://a" would be read as one, and lead elsewhere.
        f"--database={make_conninfo(dbname=reach.database)}",
        f"--dbname={make_conninfo(**parts)}",
    ]
    done, out = run(command, env=reach.env)
    if done.code == 0:
        return out, ""
    return b"", _message(done.errors) or f"pg_dumpall ended with code {done.code}"


def entries(programs: Programs, archive: Path) -> list[Entry]:
    """Return the archive's table of contents.

    :raises DamagedError: pg_restore cannot read it, or its output ends in the middle.
    """
    done, out = run([programs.path("pg_restore"), "--list", archive])
    lines = (_ENTRY.fullmatch(line) for line in out.decode(errors="replace").splitlines())
    found = [Entry(int(m[1]), int(m[3]), _kind(m[2], m[4])) for m in lines if m]
    if done.code or done.errors:
        raise DamagedError(
            f"pg_restore --list: {_message(done.errors) or f'code {done.code}'}", "its table of contents is damaged"
        )
    return found


def _kind(catalogue: str, rest: str) -> str:
    """Data has no catalogue of its own, which tells `TABLE DATA` from a table in a schema of the name DATA."""
    return next((kind for kind in _DATA_KINDS if catalogue == "0" and rest.startswith(f"{kind} ")), "")


def sequences(programs: Programs, archive: Path, contents: Sequence[Entry]) -> tuple[SequenceValue, ...]:
    """Return what the archive sets sequences to: their values are not part of a snapshot."""
    wanted = [f"{entry.dump_id};" for entry in contents if entry.kind == "SEQUENCE SET"]
    if not wanted:
        return ()
    with tempfile.NamedTemporaryFile("w", dir=archive.parent, suffix=".list") as chosen:
        chosen.write("\n".join(wanted) + "\n")
        chosen.flush()
        done, out = run([programs.path("pg_restore"), f"--use-list={chosen.name}", "--file=-", archive])
    found = tuple(
        SequenceValue(name=match[2].replace("''", "'"), last_value=int(match[3]), is_called=match[4] == "true")
        for match in _SETVAL.finditer(out.decode(errors="replace"))
    )
    if done.code or len(found) != len(wanted):
        raise DamagedError(
            f"the archive names {len(wanted)} sequences and sets {len(found)}: {_message(done.errors)}",
            "the archive's table of contents is damaged or written by a pg_dump that is not known",
        )
    return found


class Decoded(NamedTuple):
    """What decoding all data of an archive gave: rows of each table in the order of the contents, bytes, complaints."""

    rows: list[int]
    bytes: int
    errors: list[str]


def decode(programs: Programs, archive: Path, say: Callable[[int], None]) -> Decoded:
    """Decompress and parse all data of an archive, as a restore would, and count the rows that come out.

    pg_restore reads some damaged archives with exit code 0: whether rows are missing shows only in their number.

    :param say: called now and then with the bytes decoded so far.
    """
    counter = RowCounter()
    command: list[str | Path] = [programs.path("pg_restore"), "--section=data", "--file=-", archive]
    with Program(command, stdout=subprocess.PIPE) as program:
        for block in _blocks(program):
            counter.feed(block)
            say(counter.bytes)
        done = Done(program)
    errors = done.errors or ([f"pg_restore ended with code {done.code}"] if done.code else [])
    return Decoded(counter.rows, counter.bytes, errors + (["data ends inside a table"] if counter.inside else []))


def _blocks(program: Program) -> Iterator[bytes]:
    while block := program.stdout.read(1 << 18):
        yield block


class RowCounter:
    """Counts the rows of every COPY block in a stream of SQL, in flat memory."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.bytes = 0
        self.inside = False
        self._rest = b"\n"  # so that a line's begin can be asked for as "newline before it"

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the stream."""
        self.bytes += len(block)
        data = self._rest + block
        at = 0
        while True:
            ahead = self._end_of_rows(data, at) if self.inside else self._begin_of_rows(data, at)
            if ahead is None:
                break
            at = ahead
        self._rest = self._keep(data, at)

    def _begin_of_rows(self, data: bytes, at: int) -> int | None:
        found = data.find(_COPY, at)
        begins = data.find(_COPY_BEGINS, found) if found >= 0 else -1
        while begins >= 0 and data.count(b'"', found, begins) % 2:  # inside a name, which may hold any of these words
            begins = data.find(_COPY_BEGINS, begins + 1)
        if begins < 0:
            return None
        self.inside = True
        self.rows.append(0)
        return begins + len(_COPY_BEGINS) - 1  # the newline stays: a table without rows ends with the very next line

    def _end_of_rows(self, data: bytes, at: int) -> int | None:
        found = data.find(_COPY_END, at)
        if found < 0:
            return None
        self.rows[-1] += data.count(b"\n", at + 1, found + 1)
        self.inside = False
        return found + len(_COPY_END) - 1

    def _keep(self, data: bytes, at: int) -> bytes:
        """Return what must stay for the next block, having counted the rows before it."""
        if not self.inside:
            begun = data.find(_COPY, at)
            return data[begun if begun >= 0 else max(at, len(data) - len(_COPY) + 1) :]
        last = data.rfind(b"\n")
        if last > at:
            self.rows[-1] += data.count(b"\n", at + 1, last + 1)
        # What is known of an unfinished row that cannot be the end mark is only that: a row may have a gigabyte.
        unfinished = data[last:]
        return unfinished if len(unfinished) < len(_COPY_END) else b"\n---"


def failure(program: str, place: str, done: Done) -> UpkeepError:
    """Return the error for a program that failed, judged by its last words."""
    from upkeep.adapters.postgres import connect_error

    # Not what --verbose tells: "reading row-level security policies" is no complaint.
    said = [line for line in done.errors if _COMPLAINT.search(line)] or done.errors[-3:]
    message = f"{place}: {program} (code {done.code}): {_message(said)}"
    for words, kind, hint in _TROUBLE:
        if any(words in line for line in said):
            return kind(message, hint)
    if any("connection to server" in line for line in said):
        return connect_error(place, f"{program}: {_message(said)}")
    return TransientError(message, "look at the server's log around this time; it is tried again")


def _message(lines: Sequence[str]) -> str:
    return " | ".join(line.strip() for line in lines[-4:])[:1000]
