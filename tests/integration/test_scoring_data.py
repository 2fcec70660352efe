"""Rows of a window: from a query, Parquet and CSV, local and in S3, with times of every sort."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pyarrow import parquet

from lab.object_store import ObjectStoreServer
from lab.process import scratch_folder
from tests.integration.database_bench import database, server
from upkeep.adapters.scoring_data import ScoringData
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.ml import DataSource
from upkeep.core.targets import PostgresTarget

START = datetime(2026, 1, 2, tzinfo=UTC)
END = START + timedelta(days=1)
HOURS = [START - timedelta(days=1) + timedelta(hours=n) for n in range(72)]
BERLIN = ZoneInfo("Europe/Berlin")


def read(source: DataSource, *, columns: tuple[str, ...] | None = None, data: ScoringData | None = None, **given: Any):
    """Return the rows as one list of dictionaries, and what else the pass said."""
    system: Any = SimpleNamespace(name="claims", zone=BERLIN, targets=given.pop("targets", {}))
    opened = data or ScoringData(lambda _: "", lambda _: None)
    with opened.open(
        source, system, given.pop("start", START), given.pop("end", END), columns=columns, **given
    ) as rows:
        found = [row for batch in rows for row in batch.to_pylist()]
    return found, rows


def files(*patterns: object) -> DataSource:
    return DataSource(files=tuple(map(str, patterns)), time_column="t")


TIMES: dict[str, Any] = {
    "UTC": pa.array(HOURS, pa.timestamp("us", "UTC")),
    "nanoseconds": pa.array(HOURS, pa.timestamp("ns", "UTC")),
    "seconds, another zone": pa.array(HOURS, pa.timestamp("s", "America/New_York")),
    "no zone": pa.array([h.astimezone(BERLIN).replace(tzinfo=None) for h in HOURS], pa.timestamp("us")),
    "text": [h.isoformat() for h in HOURS],
    "text Z": [h.strftime("%Y-%m-%dT%H:%M:%SZ") for h in HOURS],
    "text without zone": [h.astimezone(BERLIN).strftime("%Y-%m-%d %H:%M:%S") for h in HOURS],
    "mixed text": [
        h.isoformat() if n % 2 else h.astimezone(BERLIN).strftime("%Y-%m-%d %H:%M") for n, h in enumerate(HOURS)
    ],
    "epoch": [h.timestamp() for h in HOURS],
    "epoch ms": [int(h.timestamp() * 1000) for h in HOURS],
    "dictionary": pa.array([h.isoformat() for h in HOURS]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_sort(kind: str, tmp_path: Path):
    """The same 24 rows whatever type their times have; a time without a zone is of the system's zone."""
    parquet.write_table(pa.table({"t": TIMES[kind], "x": range(72)}), tmp_path / "a.parquet", row_group_size=10)
    found, rows = read(files(tmp_path / "a.parquet"), columns=("x",))
    assert [r["x"] for r in found] == list(range(24, 48)) and (rows.undated, rows.unread) == (0, [])


def test_windows_share_no_row_and_lose_none(tmp_path: Path):
    """Over the change of the clock too: what lies in one window lies in no other."""
    first = datetime(2026, 10, 24, tzinfo=UTC)
    hours = [first + timedelta(minutes=30 * n) for n in range(150)]
    parquet.write_table(
        pa.table({"t": pa.array(hours, pa.timestamp("us", "UTC")), "x": range(150)}), tmp_path / "a.parquet"
    )
    found = [
        [
            r["x"]
            for r in read(files(tmp_path / "*"), start=first + n * (END - START), end=first + (n + 1) * (END - START))[
                0
            ]
        ]
        for n in range(4)
    ]
    assert [x for one in found for x in one] == list(range(150))


def test_files_that_cannot_be_read_are_told(tmp_path: Path):
    """Without time column, damaged, empty, of no known sort, not there: each is told, the others are read."""
    good = pa.table({"t": pa.array(HOURS), "x": range(72)})
    parquet.write_table(good, tmp_path / "good.parquet")
    parquet.write_table(good.drop_columns(["t"]), tmp_path / "no-time.parquet")
    parquet.write_table(pa.table({"t": [b"1"] * 3}), tmp_path / "binary-time.parquet")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "good.parquet").read_bytes()[:-40])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "other.csv").write_text("a;b\n1;2\n")
    (tmp_path / "twice.csv").write_text("t,x,x\n2026-01-02,1,2\n")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "notes.txt").write_text("no data")
    found, rows = read(files(tmp_path / "*", tmp_path / "none" / "*.csv"))
    assert len(found) == 24
    names = {u.place.rsplit("/", 1)[-1] for u in rows.unread}
    assert names == {
        "no-time.parquet",
        "binary-time.parquet",
        "bad.parquet",
        "empty.csv",
        "other.csv",
        "twice.csv",
        "*.csv",
    }
    assert any("`time_column`" in u.reason and "x" in u.reason for u in rows.unread)


def test_csv_as_people_write_it(tmp_path: Path):
    """Separators, quotes, line ends, missing values, byte order mark, gzip, codes like 007, bytes that are no UTF-8."""
    rows = "".join(f'{h.isoformat()};{n};"a; ""b""\nc";007;{"" if n % 2 else "NaN"}\r\n' for n, h in enumerate(HOURS))
    text = ("\ufefft;x;words;code;empty\r\n" + rows).encode() + b"2026-01-02T05:00:00Z;9;\xff\xfe;A12;x\r\n"
    (tmp_path / "a.csv").write_bytes(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text))
    for name in ("a.csv", "b.csv.gz"):
        found, passed = read(files(tmp_path / name))
        assert len(found) == 25 and not passed.unread and not passed.broken, passed
        assert found[0] == {"t": HOURS[24].isoformat(), "x": 24, "words": 'a; "b"\nc', "code": "007", "empty": None}
        assert found[-1]["words"] == "��" and found[-1]["x"] == 9


def test_a_csv_that_breaks_off(tmp_path: Path):
    """Half a gzip file, and a quote that never ends: what came before is read, the rest is told."""
    rows = "".join(f"{HOURS[30].isoformat()},{n},{n * 7919}\n" for n in range(200_000))
    whole = gzip.compress(f"t,x,y\n{rows}".encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    found, passed = read(files(tmp_path / "*"))
    assert passed.unread and "a.csv.gz" in passed.unread[0].place
    assert len(found) < 200_000


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStoreServer]:
    with scratch_folder() as folder, ObjectStoreServer(folder, buckets=["data"]) as started:
        started.create_bucket("data")
        yield started


def aws(store: ObjectStoreServer, **changed: Any) -> Any:
    from airflow.sdk import Connection

    extra = {"endpoint_url": store.endpoint_url, "region_name": "us-east-1"}
    given = {"login": store.access_key, "password": store.secret_key, "extra": extra} | changed
    import json

    return Connection(conn_id="s3", conn_type="aws", **(given | {"extra": json.dumps(given["extra"])}))


def test_objects_below_a_prefix(store: ObjectStoreServer, tmp_path: Path):
    """Parquet, CSV and gzip in S3 give the same rows as on the disk; a prefix without objects is told."""
    table = pa.table({"t": pa.array(HOURS), "x": range(72)})
    parquet.write_table(table, tmp_path / "a.parquet")
    text = ("t,x\n" + "".join(f"{h.isoformat()},{n}\n" for n, h in enumerate(HOURS))).encode()
    client = store.client()
    for key, body in {"in/a.parquet": (tmp_path / "a.parquet").read_bytes(), "in/b.csv": text,
                      "in/c.csv.gz": gzip.compress(text), "in/_x.parquet": b"", "o/d.csv": text}.items():  # fmt: skip
        client.put_object(Bucket="data", Key=key, Body=body)
    data = ScoringData(lambda _: "", lambda _: aws(store))
    source = DataSource(files=("s3://data/in/", "s3://data/none/"), conn_id="s3", time_column="t")
    found, rows = read(source, columns=("x",), data=data)
    assert sorted(r["x"] for r in found) == sorted([*range(24, 48)] * 3)
    assert [u.place for u in rows.unread] == ["s3://data/none/"]


def test_a_store_that_refuses_or_is_away(store: ObjectStoreServer):
    """A wrong key is a matter of configuration; a store that is away is tried again."""
    source = DataSource(files=("s3://data/in/",), conn_id="s3", time_column="t")
    with pytest.raises(ConfigurationError):
        read(source, data=ScoringData(lambda _: "", lambda _: aws(store, password="wrong")))
    away = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    with pytest.raises(TransientError):
        read(source, data=ScoringData(lambda _: "", lambda _: aws(store, extra=away)))


TABLE = """
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE scored (at timestamptz, x float8, n numeric, i bigint, s text, b boolean, m mood, d date, l int[],
    j jsonb);
INSERT INTO scored SELECT '2026-01-01'::timestamptz + g * interval '1 hour', g, g / 4.0, g, 's' || g, g % 2 = 0,
    'glad', '2026-01-01', '{1}', '{}' FROM generate_series(0, 71) AS g;
UPDATE scored SET x = 'NaN', s = '' WHERE i = 24;
UPDATE scored SET x = '-Infinity', s = E'a,"b"\n\\\\c' WHERE i = 25;
UPDATE scored SET x = NULL, n = NULL, s = NULL, b = NULL, m = NULL WHERE i = 26;
UPDATE scored SET n = 1e400 WHERE i = 27;
"""
SQL = "SELECT * FROM scored WHERE at >= %(start)s AND at < %(end)s ORDER BY at -- in order"


def test_a_query():
    """Numbers, text, enumerations and NULL arrive as they are; numbers too large for a double are infinite or text."""
    pg = server(18)
    with database(pg) as connection:
        connection.execute(TABLE)
        data = ScoringData(lambda _: pg.dsn("claims"), lambda _: None)
        targets = {"db": PostgresTarget(conn_id="db", id="claims/db")}
        found, rows = read(DataSource(target="db", sql=SQL), data=data, targets=targets)
        assert rows.read == 24 and [r["i"] for r in found] == list(range(24, 48))
        assert found[0]["x"] != found[0]["x"] and found[0]["s"] == ""
        assert found[1]["x"] == float("-inf") and found[1]["s"] == 'a,"b"\n\\c'
        assert [found[2][c] for c in "xnsbm"] == [None] * 5
        assert (found[4]["n"], found[4]["b"], found[4]["m"]) == (7.0, True, "glad")
        assert found[4]["l"] == b"{1}"
        some, _ = read(DataSource(target="db", sql=SQL), columns=("x", "none"), data=data, targets=targets)
        assert set(some[0]) == {"x"} and len(some) == 24


@pytest.mark.parametrize(
    ("sql", "error", "said"),
    [
        ("SELECT nothing, %(start)s, %(end)s", ConfigurationError, "nothing"),
        ("SELECT 1 AS a, %(start)s < %(end)s AS b FROM pg_sleep(9)", TransientError, "statement timeout"),
        ("DELETE FROM claim WHERE %(start)s < %(end)s RETURNING id", ConfigurationError, "syntax"),
        ("SELECT 1) TO STDOUT; DROP TABLE claim; -- %(start)s %(end)s", ConfigurationError, "syntax"),
        ("SELECT 1 AS a, nextval('claim_id_seq') AS b WHERE %(start)s < %(end)s", ConfigurationError, "read-only"),
    ],
)
def test_a_query_that_does_not_work(sql: str, error: type[Exception], said: str):
    """Wrong, too slow, or more than a question: each ends with an error that says so, and changes nothing."""
    pg = server(18)
    with database(pg) as connection:
        data = ScoringData(lambda _: pg.dsn("claims"), lambda _: None)
        targets = {"db": PostgresTarget(conn_id="db", id="claims/db")}
        with pytest.raises(error, match=said):
            read(DataSource(target="db", sql=sql), data=data, targets=targets, statement_timeout=0.3)
        row = connection.execute("SELECT count(*) FROM claim").fetchone()
        assert row and row[0] == 2000


def test_a_target_that_is_none():
    """The error names the targets that there are."""
    with pytest.raises(ConfigurationError, match=r"'db'.*no postgres target"):
        read(DataSource(target="db", sql=SQL))
