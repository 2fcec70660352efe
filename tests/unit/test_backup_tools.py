"""Client programs: choosing, calling, hearing, and counting what they write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkeep.adapters import backup_marker, fingerprint, pg_tools
from upkeep.adapters.fingerprint import Column, Table
from upkeep.adapters.object_store import FolderStore
from upkeep.core.errors import ConfigurationError, DamagedError, TransientError


class Said:
    """How a program ended."""

    def __init__(self, *errors: str, code: int = 1) -> None:
        self.errors, self.code = list(errors), code


def copy(rows: list[bytes]) -> bytes:
    return b"COPY public.t (a) FROM stdin;\n" + b"".join(row + b"\n" for row in rows) + b"\\.\n\n\n"


# What COPY can write in a row: no raw line break, and a backslash only with what it escapes.
ROW = st.lists(st.sampled_from([b"a", b"\\\\", b"\\N", b"\\.x", b"COPY x", b"\t", b"\\n", b" FROM stdin;"])).map(
    b"".join
)


@given(st.lists(st.lists(ROW.filter(lambda row: row != b"\\."), max_size=6), max_size=5), st.integers(1, 9))
def test_rows_are_counted_whatever_the_blocks(tables: list[list[bytes]], size: int) -> None:
    """The number of rows of each table does not depend on where the stream is cut."""
    stream = b"SET x;\n\n" + b"".join(b"--\n-- Data\n--\n\n" + copy(rows) for rows in tables) + b"-- done\n"
    counter = pg_tools.RowCounter()
    for at in range(0, len(stream), size):
        counter.feed(stream[at : at + size])
    assert counter.rows == [len(rows) for rows in tables]
    assert not counter.inside


def test_rows_of_any_length_are_counted_in_flat_memory() -> None:
    """A row of many blocks is one row and is not kept."""
    counter = pg_tools.RowCounter()
    counter.feed(b"COPY public.t (a) FROM stdin;\n")
    for _ in range(200):
        counter.feed(b"x" * 65536)
    assert len(counter._rest) < 100
    counter.feed(b"\n\\.\n")
    assert (counter.rows, counter.inside) == ([1], False)


def test_a_stream_that_ends_in_a_table_is_not_whole() -> None:
    """Data that stop before a table's end mark leave the counter inside of it."""
    counter = pg_tools.RowCounter()
    counter.feed(copy([b"1", b"2"])[:-6])
    assert counter.inside


@pytest.mark.parametrize(
    ("line", "kind", "hint"),
    [
        ("pg_dump: error: could not write to file: No space left on device", TransientError, "UPKEEP_SCRATCH_DIR"),
        ("pg_dump: error: query failed: ERROR:  permission denied for table x", ConfigurationError, "GRANT"),
        ("pg_dump: error: query would be affected by row-level security policy", ConfigurationError, "BYPASSRLS"),
        ("pg_dump: error: aborting because of server version mismatch", ConfigurationError, "install"),
        ("pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout", TransientError, "lock"),
        ("pg_dump: error: query failed: server closed the connection unexpectedly", TransientError, "log"),
    ],
)
def test_last_words_decide_whether_to_try_again(line: str, kind: type[Exception], hint: str) -> None:
    """What pg_dump says at its end becomes an error of the right class with what to do next."""
    chatter = ["pg_dump: reading row-level security policies", "pg_dump: reading large objects"]
    error = pg_tools.failure("pg_dump", "db:5432/shop", Said(*chatter, line))  # type: ignore[arg-type]
    assert type(error) is kind
    assert hint in error.hint and "db:5432/shop" in error.message


def test_secrets_go_into_the_environment() -> None:
    """A password is in the program's environment and not in its connection string, whatever characters it has."""
    reach = pg_tools.access(
        "host=db user=app password='it\\'s ~s3cret~' dbname=shop options='-c work_mem=1MB'", "upkeep"
    )
    assert "s3cret" not in reach.conninfo
    assert "work_mem" in reach.conninfo and "statement_timeout=0" in reach.conninfo
    assert reach.env["PGPASSWORD"] == "it's ~s3cret~"


def test_environment_of_programs_holds_nothing_of_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections and keys in the worker's environment are not handed to programs, nor its PG* variables."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgres://u:secret@db")
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert not {"AIRFLOW_CONN_SHOP", "PGHOST"} & set(pg_tools.environment())


def program(folder: Path, version: str) -> Path:
    folder.mkdir()
    (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version} (Debian 1)'\n")
    (folder / "pg_dump").chmod(0o755)
    return folder


def test_programs_of_the_servers_version_are_taken(tmp_path: Path) -> None:
    """Of several versions the server's own is taken, else the next newer one, never an older one."""
    folders = ":".join(str(program(tmp_path / v, v)) for v in ("18.1", "15.4", "16.2"))
    assert pg_tools.find(160003, folders).version == "16.2"
    assert pg_tools.find(140001, folders).version == "15.4"
    assert pg_tools.find(170001, folders).version == "18.1"
    with pytest.raises(ConfigurationError, match=r"pg_dump 19 or newer is needed.*15\.4, 16\.2, 18\.1"):
        pg_tools.find(190000, folders)


def table(*columns: Column, name: str = "t") -> Table:
    return Table(1, ("public", name), None, "", 0, 0, False, columns)


def test_types_with_a_hash_of_their_own_enter_as_themselves() -> None:
    """Portable types are hashed as they are, everything else as text; arrays with their dimensions."""
    columns = (
        Column("native", "int4", False, -1, False),
        Column("scaled", "numeric", False, 655366, False),
        Column("loose_scale", "numeric", False, -1, False),
        Column("foreign", "", False, -1, False),
        Column("many", "text", True, -1, True),
    )
    said = fingerprint.statement(table(*columns)).as_string(None)
    assert '"native", "scaled", pg_catalog.format(\'%L\', "loose_scale"), pg_catalog.format(\'%L\', "foreign")' in said
    assert '"many" collate pg_catalog."C", pg_catalog.array_dims("many")' in said


def test_names_are_quoted() -> None:
    """A name cannot become SQL."""
    said = fingerprint.statement(table(Column('c"; --', "int4", False, -1, False), name='x"; drop table y;--'))
    assert '"x""; drop table y;--"' in said.as_string(None) and '"c""; --"' in said.as_string(None)


def test_work_is_spread_by_size() -> None:
    """The largest table has a worker to itself while the others share."""
    found = [Table(n, ("s", str(n)), None, "", size, 0, False, ()) for n, size in enumerate([100, 40, 30, 20])]
    found = [t._replace(bytes=t.bytes * 10**6) for t in found]
    assert [[t.oid for t in share] for share in fingerprint.spread(found, 2)] == [[0], [1, 2, 3]]


def test_folder_keeps_only_whole_files(tmp_path: Path) -> None:
    """A file that could not be written leaves nothing, also no part of it; keys cannot leave the folder."""
    store = FolderStore(tmp_path / "store")
    store.write_bytes("a/b/c", b"123")
    assert [(i.key, i.size) for i in store.list("a/")] == [("a/b/c", 3)]
    with pytest.raises(DamagedError):
        store.write("a/b/d", tmp_path / "nowhere")
    assert [i.key for i in store.list("a/")] == ["a/b/c"]
    for key in ("../x", "a/../../x", "/x"):
        with pytest.raises(ConfigurationError):
            store.write_bytes(key, b"")
    with pytest.raises(DamagedError, match="missing"), store.read("a/b/nothing") as blocks:
        list(blocks)
    store.delete(["a/b/c", "a/b/c"])
    assert list(store.list("a/")) == []


def test_only_dead_writers_are_dead() -> None:
    """A process of this machine is dead when it is gone; elsewhere only silence tells; a run knows its tries."""
    hours, minutes = timedelta(hours=1), timedelta(minutes=10)
    mine = backup_marker.ours("run", datetime.now(UTC))
    parent = mine.model_copy(update={"pid": 1, "birth": psutil.Process(1).create_time()})
    gone = mine.model_copy(update={"birth": mine.birth - 100})
    far = mine.model_copy(update={"machine": "elsewhere"})
    assert backup_marker.verdict(parent, 10 * hours, "run", hours) == ""
    assert "gone" in backup_marker.verdict(gone, timedelta(0), "other", hours)
    assert backup_marker.verdict(far, minutes, "other", hours) == ""
    assert "earlier try" in backup_marker.verdict(far, minutes, "run", hours)
    assert backup_marker.verdict(far, timedelta(minutes=4), "run", hours) == ""
    assert backup_marker.verdict(None, minutes, "run", hours) == ""
    assert backup_marker.verdict(None, 2 * hours, "run", hours) != ""
