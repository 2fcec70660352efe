"""What goes wrong around a backup is told by its class (try again or not), with its place and a hint."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.faults.test_backup_killed import start
from tests.integration.backup_world import World, world
from upkeep.core.backup import Progress
from upkeep.core.errors import ConfigurationError, TransientError


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world(max_locks_per_transaction=64) as made:
        yield made


@pytest.fixture
def shop(lab: World) -> World:
    lab.database(
        "shop",
        "create table big as select i, md5(i::text) as a, md5((i * 7)::text) as b from generate_series(1, 300000) as i",
        "create table small as select generate_series(1, 10) as n",
    )
    lab.store.delete(lab.objects())
    return lab


def nothing_counts(lab: World) -> bool:
    return not [s for s in lab.archive.stored(lab.place) if s.complete] and list(lab.scratch.iterdir()) == []


def test_store_killed_in_the_middle_of_an_upload(shop: World) -> None:
    """The store dies while files arrive: try again; nothing counts, and the retry succeeds and sweeps."""

    def kill_once(progress: Progress) -> None:
        if shop.s3.alive:
            shop.s3.kill()

    try:
        with pytest.raises(TransientError) as caught:
            shop.backup(kill_once)
    finally:
        shop.s3.start()
    assert "s3://backups/kept" in caught.value.message and caught.value.hint
    assert list(shop.scratch.iterdir()) == []
    assert nothing_counts(shop)
    leftovers = {key.split("/")[2] for key in shop.objects()}
    assert {left.name for left in shop.archive.sweep(shop.place, "any", timedelta(hours=2))} == leftovers
    kept = shop.backup()
    assert shop.check(kept.manifest.id).ok
    assert {key.split("/")[2] for key in shop.objects()} == {kept.manifest.id}


def test_staging_disk_full(shop: World) -> None:
    """pg_dump cannot write any further: try again, with the place to free; nothing counts and staging is gone."""
    worker = start(shop, fsize="1000000")
    out, err = worker.communicate(timeout=120)
    said = json.loads(out.splitlines()[-1])
    assert said["error"] == "TransientError", (out, err)
    assert "File too large" in said["message"] and "UPKEEP_SCRATCH_DIR" in said["message"]
    assert nothing_counts(shop)


def test_staging_disk_too_small_is_noticed_before_the_dump(shop: World) -> None:
    """A scratch folder without room for the expected dump stops the backup before it reads a row."""
    with pytest.raises(TransientError, match="MB free, the dump is expected to need"):
        shop.backup(expected_bytes=10**15)


def test_database_killed_in_the_middle(shop: World) -> None:
    """The database dies while it is dumped: try again; nothing counts; the retry succeeds."""

    def kill_once(progress: Progress) -> None:
        if shop.postgres.alive:
            shop.postgres.kill()

    try:
        with pytest.raises(TransientError):
            shop.backup(kill_once)
    finally:
        shop.postgres.start()
    assert nothing_counts(shop)
    assert shop.check(shop.backup().manifest.id).ok


@pytest.mark.parametrize("what", ["password", "database", "role"])
def test_refused_by_the_server(shop: World, what: str) -> None:
    """A wrong password, database or role cannot pass by itself, and the message does not hold the password."""
    password = shop.postgres.password()
    wrong = {
        "password": shop.dsn.replace(password, "hunter2-wrong"),
        "database": shop.dsn.replace("/shop", "/nowhere"),
        "role": shop.dsn.replace("postgres:", "nobody_here:"),
    }
    shop.dsn = wrong[what]
    with pytest.raises(ConfigurationError) as caught:
        shop.backup()
    assert caught.value.hint
    assert "hunter2" not in str(caught.value) and password not in str(caught.value)


def test_server_not_there(shop: World) -> None:
    """A server that does not listen may come back."""
    shop.dsn = shop.dsn.replace(f":{shop.postgres.port}/", ":1/")
    with pytest.raises(TransientError):
        shop.backup()


def test_password_is_on_no_command_line(shop: World) -> None:
    """Every user of the machine can read command lines: no program of a backup has the password on its own."""
    import psutil

    seen: list[str] = []

    def look(progress: Progress) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                seen.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue

    shop.backup(look)
    assert any("pg_dump" in line for line in seen)
    assert not any(shop.postgres.password() in line for line in seen)


def test_missing_privilege_is_told_with_its_cure(shop: World) -> None:
    """A role without SELECT is told which GRANT it lacks; with pg_read_all_data alone it can back up."""
    shop.postgres.create_role("reader")
    with shop.connect() as connection:
        connection.execute('grant connect on database shop to "reader"')
    shop.dsn = shop.postgres.dsn("shop", "reader")
    with pytest.raises(ConfigurationError, match="pg_read_all_data"):
        shop.backup()
    with shop.connect() as connection:
        connection.execute('grant pg_read_all_data to "reader"')
        connection.execute("revoke connect on database postgres, template1 from public")
        number = connection.execute("select lo_from_bytea(0, 'content')").fetchone()[0]
    try:
        with pytest.raises(ConfigurationError, match="GRANT SELECT ON LARGE OBJECT"):
            shop.backup()
        with shop.connect() as connection:
            connection.execute(f'grant select on large object {number} to "reader"')
        kept = shop.backup()
    finally:
        with shop.connect() as connection:
            connection.execute("grant connect on database postgres, template1 to public")
    assert shop.check(kept.manifest.id).ok
    assert kept.manifest.roles == ""
    assert kept.manifest.large_objects.count == 1
    assert {t.name for t in kept.manifest.tables} == {("public", "big"), ("public", "small")}


def test_row_level_security_is_never_dumped_around(shop: World) -> None:
    """A role from which policies hide rows gets an error that names the table, not a backup with rows missing."""
    shop.postgres.create_role("reader", member_of=("pg_read_all_data",))
    with shop.connect() as connection:
        connection.execute('grant connect on database shop to "reader"')
        connection.execute("alter table small enable row level security")
        connection.execute("create policy half on small using (n < 5)")
    shop.dsn = shop.postgres.dsn("shop", "reader")
    with pytest.raises(
        ConfigurationError, match=r"row-level security hides rows of 1 tables.*public\.small.*BYPASSRLS"
    ):
        shop.backup()
    shop.dsn = shop.postgres.dsn("shop")
    assert shop.backup().manifest.rows == 300010


def test_locked_table_is_waited_for_only_so_long(shop: World) -> None:
    """An exclusive lock held by somebody ends the try after the lock timeout, to be tried again."""
    with shop.connect() as connection, connection.transaction():
        connection.execute("lock table small in access exclusive mode")
        with pytest.raises(TransientError, match="55P03"):
            shop.backup(lock_timeout=1)
    assert nothing_counts(shop)


def test_lock_that_is_wanted_in_the_middle_does_not_hang(shop: World) -> None:
    """TRUNCATE that arrives during a backup ends in a backup or in an error to try again, and is never deadlocked."""
    go, done = threading.Event(), threading.Event()

    def truncate() -> None:
        go.wait()
        with shop.connect() as connection:
            connection.execute("truncate small")
        done.set()

    thread = threading.Thread(target=truncate)
    thread.start()
    try:
        kept = shop.backup(lambda _: go.set(), lock_timeout=3)
        assert shop.check(kept.manifest.id).ok
    except TransientError:
        assert nothing_counts(shop)
    finally:
        go.set()
        thread.join(20)
    assert done.is_set()


def test_pg_dump_that_is_too_old(shop: World) -> None:
    """A folder without a pg_dump for this server is a matter of configuration."""
    from lab.postgres import bin as programs

    with pytest.raises(ConfigurationError, match="pg_dump 18 or newer is needed"):
        shop.backup(programs=str(programs(14)))


def test_two_thousand_tables(lab: World) -> None:
    """A database with 2,000 tables is backed up within the server's default lock table, and checked."""
    with_tables = (
        "do $$ begin for n in 1..2000 loop"
        " execute format('create table t%s (id int primary key, v text)', n);"
        " if n % 100 = 0 then commit; end if; end loop; end $$"
    )
    lab.database("many", with_tables, "insert into t77 values (1, 'x')")
    kept = lab.backup()
    assert (len(kept.manifest.tables), kept.manifest.rows) == (2000, 1)
    assert lab.check(kept.manifest.id).ok


def test_progress_is_told_while_it_happens(shop: World) -> None:
    """Progress rises from nothing to everything, in tables, fingerprints and stored bytes."""
    told: list[Progress] = []
    begun = time.monotonic()
    kept = shop.backup(told.append)
    assert (told[-1].done, told[-1].total, told[-1].proved) == (2, 2, 2)
    assert told[-1].stored_bytes > 0.5 * kept.manifest.size_bytes
    assert [p.bytes_done for p in told] == sorted(p.bytes_done for p in told)
    assert told[-1].seconds <= time.monotonic() - begun
