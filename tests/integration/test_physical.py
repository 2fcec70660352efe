"""Physical backups: taken, checked, brought back and started, on every supported major."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.process import scratch_folder
from lab.servers import ObjectStoreServer
from tests.integration.physical_world import DATABASE, Cluster, cluster, quiet
from upkeep.adapters.encrypted_store import EncryptedStore
from upkeep.adapters.encryption import keys_of
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.adapters.physical_restore import fetch_and_unpack
from upkeep.core.catalogue import Entry
from upkeep.core.errors import ConfigurationError
from upkeep.core.model import Severity

CONTENT = "select count(*), sum(hashtext(t::text)::bigint) from t"


@pytest.fixture(scope="module", params=[17, 18])
def chained(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def newest() -> Iterator[Cluster]:
    with cluster(18) as made:
        yield made


def content(made: Cluster) -> list[tuple[object, ...]]:
    return made.run(CONTENT)


@pytest.mark.parametrize("major", [14, 15, 16])
def test_a_full_backup_starts_as_the_source_was(major: int) -> None:
    """Taken while connected to, checked without a fault, brought back, started: the same rows, by hash."""
    with cluster(major) as made:
        kept = made.backup()
        assert kept.manifest.parent is None and kept.manifest.checksums and kept.manifest.timeline == 1
        assert len(kept.manifest.files) > 2  # several pieces
        seen = made.check(kept.manifest.id)
        assert (seen.faults, seen.decoded) == ((), True)
        with made.restored(kept.manifest.id) as server, server.connect() as connection:
            assert connection.execute(CONTENT).fetchall() == content(made)
        assert made.slots() == 0
        assert list(made.scratch.iterdir()) == []


def test_a_chain_of_three_comes_back_at_a_point_of_its_own(chained: Cluster) -> None:
    """Full, incremental, incremental: smaller, and a restored one holds what the database held then."""
    parent, states, sizes = None, [], []
    for number in range(3):
        chained.run(f"insert into t select i, 'more' from generate_series(1, {100 * number}) as i")
        kept = chained.backup(parent)
        assert kept.manifest.parent == parent
        parent = kept.manifest.id
        states.append((parent, content(chained)))
        sizes.append(kept.manifest.size_bytes)
    assert max(sizes[1:]) < sizes[0] / 2
    assert chained.check(parent or "").faults == ()
    backup_id, state = states[-1 if chained.server.major == 18 else 1]  # one of them each: starting servers takes time
    with chained.restored(backup_id) as server, server.connect() as connection:
        assert connection.execute(CONTENT).fetchall() == state


def test_an_s3_store_holds_it_as_well_encrypted(newest: Cluster, tmp_path: Path) -> None:
    """Backup, check and restore do not depend on the kind of store, nor on encryption on the way to it."""
    with scratch_folder() as folder, ObjectStoreServer(folder / "s3", buckets=["backups"]) as s3:
        keys = keys_of("lab-1", None, {"keys": {"lab-1": base64.b64encode(bytes(32)).decode()}}, "here")
        store = EncryptedStore(S3Store(s3.client(), "backups", "kept"), keys)
        made = Cluster(newest.server, newest.folder, newest.dsn, "shop/s3", store)
        first = made.backup(piece_bytes=2 << 20).manifest
        second = made.backup(first.id).manifest
        assert made.check(second.id).faults == ()
        (tmp_path / "work").mkdir()
        data = fetch_and_unpack(store, made.place, second.id, tmp_path / "work", programs=made.programs, say=quiet)
        assert (data / "PG_VERSION").read_text() == "18\n" and data.stat().st_mode & 0o777 == 0o700


def test_the_routine_makes_a_full_one_then_incremental_ones(newest: Cluster) -> None:
    """A healthy server gives no finding; tier, age and a failed verification make it full; the parent is on record."""
    made = Cluster(newest.server, newest.folder, newest.dsn, "shop/routine")
    first, findings = made.routine()
    second, more = made.routine()
    quarterly, _ = made.routine(tier="quarterly")
    old, _ = made.routine(full_every_days=0)
    assert findings == more == []
    assert (first["parent"], second["parent"], quarterly["parent"], old["parent"]) == (None, first["id"], None, None)
    assert second["kind"] == "physical" and second["size_bytes"] < first["size_bytes"]
    known = {"target": made.target, "kind": "physical", "location": "", "finished": datetime.now(UTC)}
    made.known = (Entry(id=old["id"], verified_ok=False, **known),)
    after, findings = made.routine()
    assert after["parent"] is None and [f.severity for f in findings] == [Severity.WARNING]


def test_without_summaries_it_is_full_and_says_how_to_get_them(newest: Cluster) -> None:
    """Summaries that are gone, and summarize_wal off, are findings with the command to run; a backup is made."""
    made = Cluster(newest.server, newest.folder, newest.dsn, "shop/summaries")
    made.routine()
    made.run("insert into t select 1, 'x'", "checkpoint", "select pg_switch_wal()", "checkpoint", "select pg_sleep(1)")
    for path in (made.server.pgdata / "pg_wal" / "summaries").glob("*.summary"):
        path.unlink()
    evidence, findings = made.routine()
    assert evidence["parent"] is None
    assert [(f.check, f.severity) for f in findings] == [("incremental", Severity.WARNING)]
    assert "wal_summary_keep_time" in findings[0].hint
    try:
        made.run("alter system set summarize_wal = off", "select pg_reload_conf()", "select pg_sleep(0.3)")
        evidence, findings = made.routine()
    finally:
        made.run("alter system reset summarize_wal", "select pg_reload_conf()", "select pg_sleep(0.3)")
    assert evidence["parent"] is None
    assert [(f.check, f.severity) for f in findings] == [("incremental", Severity.INFO)]
    assert "ALTER SYSTEM SET summarize_wal = on" in findings[0].hint


def test_damaged_pages_are_critical_and_the_backup_is_kept(newest: Cluster) -> None:
    """A page without its checksum is named with file and block; the next backup looks at every page again."""
    made = Cluster(newest.server, newest.folder, newest.dsn, "shop/pages")
    [(path,)] = made.run(
        "drop table if exists hurt", "create table hurt as select i from generate_series(1, 5000) as i", "checkpoint",
        "select pg_relation_filepath('hurt')",
    )  # fmt: skip
    with (made.server.pgdata / path).open("r+b") as file:
        for block in (3, 4):  # of a single one the server keeps no count
            file.seek(block * 8192 + 4000)
            file.write(b"damage")
    try:
        evidence, findings = made.routine()
        assert evidence["damaged_pages"] == 2 and made.check(evidence["id"]).faults == ()
        assert [(f.check, f.subject, f.severity) for f in findings] == [("pages", path, Severity.CRITICAL)]
        assert "block 3, 4" in findings[0].message
        again, findings = made.routine()
        assert again["parent"] is None and {f.subject for f in findings} == {path, "statistics"}
    finally:
        made.run("drop table hurt", "checkpoint", "select pg_stat_reset()")


def test_what_is_missing_is_named_with_its_cure(newest: Cluster) -> None:
    """A role without REPLICATION, further tablespaces: refused at once, with the cure; so is a closed pg_hba.conf."""
    server = newest.server
    server.create_role("poor")
    poor = Cluster(server, newest.folder, server.dsn(user="poor"))
    with pytest.raises(ConfigurationError, match="lacks REPLICATION") as caught:
        poor.physical.look(DATABASE, newest.programs)
    assert caught.value.hint == "ALTER ROLE poor REPLICATION"
    newest.run("alter role poor replication")
    assert poor.physical.look(DATABASE, newest.programs).timeline == 1
    assert poor.backup(max_rate=200_000).manifest.source.system_identifier  # nothing more is needed
    hba = server.pgdata / "pg_hba.conf"
    before = hba.read_text()
    try:
        hba.write_text(before.replace("host    replication", "#"))
        newest.run("select pg_reload_conf()", "select pg_sleep(0.3)")
        with pytest.raises(ConfigurationError, match="entry for replication"):
            poor.physical.look(DATABASE, newest.programs)
    finally:
        hba.write_text(before)
        newest.run("select pg_reload_conf()", "select pg_sleep(0.3)")
    newest.run("set allow_in_place_tablespaces = on", "create tablespace elsewhere location ''")
    try:
        with pytest.raises(ConfigurationError, match="1 further tablespaces"):
            poor.physical.look(DATABASE, newest.programs)
    finally:
        newest.run("drop tablespace elsewhere")


def test_programs_of_another_major_are_not_enough_to_read_it(newest: Cluster) -> None:
    """pg_verifybackup of the server's own major is asked for by name."""
    from lab.postgres import bin

    kept = newest.backup()
    with pytest.raises(ConfigurationError, match="18"):
        newest.archive.check(newest.place, kept.manifest.id, True, str(bin(17)), lambda _: None)
