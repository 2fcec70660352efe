"""The routines about backups from observe to verify, on real servers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.backup_world import BUCKET, RUN, World, world
from tests.integration.copies_world import CopiesWorld, Shelf, with_cache
from upkeep.adapters import archive, backup_marker, object_store
from upkeep.core import backup as core
from upkeep.core.cadence import Window
from upkeep.core.errors import ConfigurationError
from upkeep.core.job import Job
from upkeep.core.model import OutcomeStatus
from upkeep.core.routine import Routine
from upkeep.core.targets import PostgresTarget, StoreRef

lab_catalogue = Shelf()


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def shop(lab: World) -> World:
    lab.database("shop", "create table t as select generate_series(1, 1000) as n")
    lab.store.delete(lab.objects())
    lab_catalogue.rows.clear()
    return lab


def aws(lab: World, **changes: Any) -> Any:
    """Return the Airflow connection to the store."""
    from airflow.sdk import Connection

    extra = {"endpoint_url": lab.s3.endpoint_url, "region_name": "us-east-1"}
    fields = {"login": lab.s3.access_key, "password": lab.s3.secret_key, "extra": json.dumps(extra)}
    return Connection(conn_id="store", conn_type="aws", **{**fields, **changes})


def job(lab: World, name: str, store: StoreRef | None = None, **settings: Any) -> tuple[Routine, Job[Any, Any]]:
    routine = Routine.load(f"upkeep.routines.{name}")
    now = datetime.now(UTC)
    tools = SimpleNamespace(
        archive=archive.make_archiver(lambda _: lab.dsn, object_store.opener(lambda _: aws(lab)), lab.scratch),
        history=SimpleNamespace(series=lambda *_, **__: []), catalogue=lab_catalogue, now=lambda: datetime.now(UTC),
        log=logging.getLogger("test"), scratch=lab.scratch,
    )  # fmt: skip
    target = PostgresTarget(conn_id="db", id=lab.target, store=store or lab.place.store)
    if name == "backup.postgres":
        settings.setdefault("canary", False)  # that has tests of its own
    return routine, Job(
        routine=name, target=target, system=SimpleNamespace(name="shop", store=None),  # type: ignore[arg-type]
        settings=routine.settings(programs=str(lab.postgres.bin), **settings), run_id=RUN, try_number=1, tools=tools,  # type: ignore[arg-type]
        window=Window(start=now - timedelta(days=1), end=now),
    )  # fmt: skip


def run(lab: World, name: str, **settings: Any) -> tuple[Any, list[Any], list[Any]]:
    """Run a routine's lifecycle; return its judgement, its outcomes and all its findings."""
    routine, one = job(lab, name, **settings)
    seen = routine.observe(one)
    judged = routine.judge(one, seen)
    outcomes = [routine.act(one, action) for action in routine.plan(one, seen).actions]
    verified = routine.verify(one, seen, tuple(outcomes))
    findings = [*judged.findings, *(f for o in outcomes for f in o.findings), *verified.findings]
    return judged, outcomes, findings


@pytest.mark.parametrize("kind", ["s3", "file"])
def test_backup_and_verification_end_to_end(shop: World, kind: str, tmp_path: Any) -> None:
    """With a bucket behind an Airflow connection or a folder: backup and verification leave evidence, no finding."""
    store = StoreRef(url=f"file://{tmp_path}/kept") if kind == "file" else None
    _, outcomes, findings = run(shop, "backup.postgres", store=store)
    assert findings == []
    made = outcomes[-1].evidence["backup"]
    assert {"id", "location", "manifest_sha256", "size_bytes", "source_bytes", "tables", "rows", "started", "finished",
            "lsn", "snapshot_time"} <= set(made)  # fmt: skip
    assert (made["tables"], made["rows"]) == (1, 1000)
    judged, outcomes, findings = run(shop, "backup.verify", store=store)
    assert findings == []
    assert outcomes[0].evidence["verification"] | {"seconds": 0} == {
        "id": made["id"], "ok": True, "files": made["files"], "bytes": made["size_bytes"], "rows": 1000, "tables": 1,
        "decoded": True, "seconds": 0, "errors": [], "kind": "dump", "store": (store or shop.place.store).url,
    }  # fmt: skip
    assert "backup.age" in {m.name for m in judged.measurements}


def test_leftovers_are_planned_and_swept(shop: World) -> None:
    """Objects of a dead writer are told in the plan, removed before the backup, and then gone from the plan."""
    old = f"{shop.target}/20200101T000000Z-0123abcd/1.dat"
    shop.store.write_bytes(old, b"x")
    routine, one = job(shop, "backup.postgres")
    assert [a.name for a in routine.plan(one, routine.observe(one)).actions] == ["backup"]
    mark = {"run_id": "r", "machine": "m", "pid": 1, "birth": 0, "started": "2020-01-01T00:00:00Z"}
    machine = backup_marker._machine()
    shop.store.write_bytes(old.replace("1.dat", core.MARKER), json.dumps({**mark, "machine": machine}).encode())
    _, outcomes, findings = run(shop, "backup.postgres")
    assert [o.status for o in outcomes] == [OutcomeStatus.DONE, OutcomeStatus.DONE]
    assert findings == []
    assert not [key for key in shop.objects() if "0123abcd" in key]


def test_verify_notices_what_the_store_lost(shop: World) -> None:
    """A backup whose objects vanish right after it was made is critical before anybody relies on it."""
    routine, one = job(shop, "backup.postgres")
    seen = routine.observe(one)
    outcomes = tuple(routine.act(one, action) for action in routine.plan(one, seen).actions)
    shop.store.delete([key for key in shop.objects() if key.endswith("toc.dat")])
    assert [f.check for f in routine.verify(one, seen, outcomes).findings] == ["manifest"]


def test_damage_is_critical_and_kept_as_evidence(shop: World) -> None:
    """A flipped byte makes verification fail with a critical finding and evidence that says so."""
    run(shop, "backup.postgres")
    key = next(k for k in shop.objects() if k.endswith(".dat.zst"))
    with shop.store.read(key) as blocks:
        data = bytearray(b"".join(blocks))
    data[len(data) // 2] ^= 0xFF
    shop.store.write_bytes(key, bytes(data))
    _, outcomes, findings = run(shop, "backup.verify")
    assert "integrity" in {f.check for f in findings}
    assert outcomes[0].status is OutcomeStatus.FAILED
    assert outcomes[0].evidence["verification"]["ok"] is False


def test_equal_backups_of_a_written_database_are_suspicious(shop: World) -> None:
    """Rows that are written and end as they were, three backups long, are told as standing content."""
    for _ in range(3):
        with shop.connect() as connection:
            connection.execute("update t set n = n")
            connection.execute("select pg_stat_force_next_flush()")
        run(shop, "backup.postgres")
    _, _, findings = run(shop, "backup.verify", constant_writes=1)
    assert [f.check for f in findings] == ["constant"]


def test_wrong_store_is_told(shop: World) -> None:
    """A bucket that does not exist and a wrong key are matters of configuration, told with what to correct."""
    routine, one = job(shop, "backup.postgres", store=StoreRef(url="s3://no-such-bucket/x", conn_id="store"))
    with pytest.raises(ConfigurationError, match="NoSuchBucket"):
        routine.observe(one)
    wrong = archive.make_archiver(
        lambda _: shop.dsn, object_store.opener(lambda _: aws(shop, password="wrong" * 8)), shop.scratch
    )
    with pytest.raises(ConfigurationError, match=f"s3://{BUCKET}"):
        wrong.stored(shop.place)


def test_no_store_is_told(shop: World) -> None:
    """A target without a store names what to write into the system file."""
    routine, one = job(shop, "backup.postgres")
    bare = one.target.model_copy(update={"store": None})
    with pytest.raises(ConfigurationError, match="no store for backups"):
        routine.observe(Job(**{**vars(one), "target": bare}))


def test_bytes_that_change_on_the_way_are_refused_by_the_store(shop: World) -> None:
    """The store verifies the SHA-256 of every upload: what arrives altered is not kept."""
    from botocore.exceptions import ClientError

    from upkeep.adapters.object_store_s3 import _base64

    client = shop.s3.client()
    digest = _base64(hashlib.sha256(b"what was read"))
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket=BUCKET, Key="altered", Body=b"what arrived", ChecksumSHA256=digest)


def test_large_files_go_in_parts(shop: World, tmp_path: Any) -> None:
    """A file above one part arrives whole, with the hash of the whole, and one that fails leaves no parts behind."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (70_000))
    written = shop.store.write("large", path)
    with shop.store.read("large") as blocks:
        assert b"".join(blocks) == path.read_bytes()
    assert written.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(shop.store.uploads(""))


def test_standing_content_is_noticed_beside_a_canary(shop: World) -> None:
    """The canary's row is new each time; what the backups hold besides is compared, and has stood still."""
    for number in range(3):
        with shop.connect() as connection:
            connection.execute("create table if not exists upkeep_canary (counter int)")
            connection.execute(f"insert into upkeep_canary values ({number})".encode())
            connection.execute("update t set n = n")
            connection.execute("select pg_stat_force_next_flush()")
        run(shop, "backup.postgres")
    _, _, findings = run(shop, "backup.verify", constant_writes=1)
    assert [f.check for f in findings] == ["constant"]


def test_a_manifest_that_the_store_lost_or_changed_is_noticed(shop: World) -> None:
    """A flipped byte in the manifest of an older backup is told by the next verification, whichever it reads."""
    for _ in range(2):
        run(shop, "backup.postgres")
    oldest = min(key for key in shop.objects() if key.endswith("manifest.json"))
    with shop.store.read(oldest) as blocks:
        data = bytearray(b"".join(blocks))
    data[100] ^= 1
    shop.store.write_bytes(oldest, bytes(data))
    _, _, findings = run(shop, "backup.verify")
    assert [(f.check, f.subject) for f in findings] == [("manifest", shop.target)]


def test_parts_of_an_upload_that_nobody_completed_are_told(shop: World) -> None:
    """They cost money and no listing of objects shows them: a note says how old they are."""
    run(shop, "backup.postgres")
    key = f"kept/{shop.target}/20200101T000000Z-0123abcd/1.dat"
    begun = shop.s3.client().create_multipart_upload(Bucket=BUCKET, Key=key)
    shop.s3.client().upload_part(Bucket=BUCKET, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 100)
    try:
        routine, one = job(shop, "backup.verify")
        soon = one.settings.model_copy(update={"sweep_after_hours": -0.01})
        one = Job(**{**vars(one), "settings": soon})
        found = [f for f in routine.judge(one, routine.observe(one)).findings if f.check == "leftover"]
        assert len(found) == 1
        assert "upload of 20200101T000000Z-0123abcd" in found[0].message
    finally:
        shop.s3.client().abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=begun["UploadId"])


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_copies_are_verified_like_dumps(kind: str, tmp_path: Any) -> None:
    """A backup of SQLite or Redis is read, decoded and counted; a flipped byte is critical; none at all is missing."""
    with with_cache(tmp_path) as made:
        assert made.cache is not None
        made.cache.client().set("a", "b")
        made.sqlite("create table t(x)", "insert into t values (1)")
        world_: CopiesWorld = made
        _, findings = world_.run("backup.verify", kind)
        assert [f.check for f in findings] == ["missing"]
        world_.run(f"backup.{kind}", kind)
        outcomes, findings = world_.run("backup.verify", kind)
        assert findings == []
        seen = outcomes[0].evidence["verification"]
        assert (seen["kind"], seen["ok"], seen["decoded"], seen["rows"]) == (kind, True, True, 1)

        def flip(data: bytearray) -> None:
            data[len(data) // 2] ^= 1

        world_.alter(kind, "d*.gz", flip)
        outcomes, findings = world_.run("backup.verify", kind)
        assert "integrity" in {f.check for f in findings}
        assert outcomes[0].status is OutcomeStatus.FAILED


def test_what_could_not_be_decoded_is_unknown(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server program a Redis backup is read and not loaded: never silently fine."""
    with with_cache(tmp_path) as made:
        made.run("backup.redis", "redis")
        monkeypatch.setenv("PATH", "/nowhere")
        monkeypatch.delenv("UPKEEP_REDIS_BIN", raising=False)
        _, findings = made.run("backup.verify", "redis", programs="")
        assert [(f.check, str(f.severity)) for f in findings] == [("not_decoded", "unknown")]
