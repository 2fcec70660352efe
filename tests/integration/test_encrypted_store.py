"""Encrypted, locked and tiered backups on real servers: a folder, a bucket, a bucket with object lock."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.backup_world import BUCKET, RUN, World, quiet, world
from tests.integration.test_backup_routines import job
from upkeep.adapters import backup_leftovers, object_store
from upkeep.adapters.archive import Archive, make_archiver
from upkeep.adapters.backup_making import Making
from upkeep.adapters.encrypted_store import keys_of
from upkeep.adapters.object_store import Store, read_bytes
from upkeep.adapters.object_store_s3 import PART
from upkeep.core.backup import Check, Database, Kept, Options, Place
from upkeep.core.errors import ConfigurationError, DamagedError, LockedError, NoKeyError
from upkeep.core.model import Severity
from upkeep.core.targets import StoreRef

KEY = {name: base64.b64encode(hashlib.sha256(name.encode()).digest()).decode() for name in ("2026-01", "2027-01", "x")}
LOCKED, DAYS = "locked", 30


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        made.database("shop", "create table t as select n, md5(n::text) as patient from generate_series(1, 20000) n")
        made.s3.client().create_bucket(Bucket=LOCKED, ObjectLockEnabledForBucket=True)
        yield made


def keys(current: str, *names: str, **more: str) -> Any:
    """Return the Airflow connection with these keys."""
    from airflow.sdk import Connection

    extra = {"keys": {name: KEY[name] for name in names or (current,)}, **more}
    return Connection(conn_id="key", conn_type="generic", login=current, extra=json.dumps(extra))


@pytest.fixture
def opened(lab: World) -> Callable[[StoreRef, Any], Store]:
    """Open a store as workers do, with keys from a connection."""
    from airflow.sdk import Connection

    extra = {"endpoint_url": lab.s3.endpoint_url, "region_name": "us-east-1"}
    login = {"login": lab.s3.access_key, "password": lab.s3.secret_key}
    aws = Connection(conn_id="store", conn_type="aws", **login, extra=json.dumps(extra))
    return lambda ref, given: object_store.opener(lambda conn_id: aws if conn_id == "store" else given)(ref)


@pytest.fixture(params=["s3", "file"])
def ref(request: pytest.FixtureRequest, tmp_path: Path) -> StoreRef:
    """Return a place of the test's own that is to be encrypted."""
    if request.param == "file":
        return StoreRef(url=f"file://{tmp_path}/kept", key_conn_id="key")
    return StoreRef(url=f"s3://{BUCKET}/{tmp_path.name.replace('_', '-')}", conn_id="store", key_conn_id="key")


class Site:
    """Backups of the shop's database in a store, as somebody with these keys makes and checks them."""

    def __init__(self, lab: World, store: Store, ref: StoreRef) -> None:
        self.lab, self.store, self.place = lab, store, Place(store=ref, target="shop/shop")

    @property
    def archive(self) -> Archive:
        """The archiver under test."""
        return make_archiver(lambda _: self.lab.dsn, lambda _: self.store, self.lab.scratch)

    def backup(self, **options: Any) -> Kept:
        """Make a backup."""
        chosen = Options(programs=str(self.lab.postgres.bin), **options)
        return self.archive.backup(Database(conn_id="db"), self.place, chosen, RUN, quiet)

    def check(self, backup_id: str) -> Check:
        """Read a backup again, every byte and every row."""
        return self.archive.check(self.place, backup_id, True, str(self.lab.postgres.bin), quiet)


def raw(opened: Any, ref: StoreRef) -> Store:
    """Return the store as somebody sees it who has no key."""
    return opened(ref.model_copy(update={"key_conn_id": None}), None)


def test_a_dump_is_encrypted_and_verified(lab: World, opened: Any, ref: StoreRef) -> None:
    """What is outside holds no word of the data; with the key everything is read again and decoded to rows."""
    site = Site(lab, opened(ref, keys("2026-01")), ref)
    kept = site.backup(compression_level=0)
    assert kept.manifest.key_id == "2026-01"
    seen = site.check(kept.manifest.id)
    assert (seen.faults, seen.rows, seen.bytes) == ((), 20_000, kept.manifest.size_bytes)
    outside = raw(opened, ref)
    word = hashlib.md5(b"77").hexdigest().encode()
    for item in outside.list("shop/shop/"):
        data = read_bytes(outside, item.key)
        assert item.key.endswith("manifest.json") or (b"patient" not in data and word not in data)
    assert sum(i.size for i in site.store.list("shop/shop/") if "manifest" not in i.key) == kept.manifest.size_bytes
    assert sum(s.size_bytes for s in site.archive.stored(site.place)) == kept.manifest.size_bytes


def test_faults_outside_are_noticed(lab: World, opened: Any, ref: StoreRef) -> None:
    """Swapped, cut off, prolonged, replaced by the plain file or by that of another backup: each a fault, by name."""
    site = Site(lab, opened(ref, keys("2026-01")), ref)
    first, second = site.backup(), site.backup()
    outside = raw(opened, ref)
    names = sorted(f.name for f in first.manifest.files)
    one, other = (f"shop/shop/{first.manifest.id}/{name}" for name in names[:2])
    was = {key: read_bytes(outside, key) for key in (one, other)}
    elsewhere = read_bytes(outside, one.replace(first.manifest.id, second.manifest.id))
    flipped = bytes([*was[one][:150], was[one][150] ^ 1, *was[one][151:]])
    for wrong in (was[other], was[one][:-1], was[one] + b"x", read_bytes(site.store, one), elsewhere, flipped, b""):
        outside.write_bytes(one, wrong)
        faults = site.check(first.manifest.id).faults
        assert {f.subject for f in faults if f.check == "integrity"} == {names[0]}
    outside.write_bytes(one, was[one])
    assert site.check(first.manifest.id).ok


def test_without_the_key_nothing_is_called_damaged(lab: World, opened: Any, ref: StoreRef) -> None:
    """No keys, other keys, another key under the same id: an error that says so, for the backup may be perfect."""
    kept = Site(lab, opened(ref, keys("2026-01")), ref).backup()
    wrong = keys("2026-01")
    wrong.extra = json.dumps({"keys": {"2026-01": KEY["x"]}})
    expected = {
        "names no keys for this store": raw(opened, ref),
        rf"backup {kept.manifest.id} of shop/shop .* key 2026-01; connection 'key' knows 2027-01": opened(
            ref, keys("2027-01")
        ),
        "the key 2026-01 of connection 'key' is not the one that it was made with": opened(ref, wrong),
    }
    for said, store in expected.items():
        site = Site(lab, store, ref)
        with pytest.raises(NoKeyError, match=said) as caught:
            site.check(kept.manifest.id)
        assert not any(key in str(caught.value) for key in KEY.values())
        # The catalogue needs no key.
        assert site.archive.manifest(site.place, kept.manifest.id) == kept.manifest
        assert [s.complete for s in site.archive.stored(site.place)] == [True]


def test_verification_without_the_key_is_unknown(lab: World, opened: Any, ref: StoreRef) -> None:
    """The routine calls the backup neither good nor damaged, and leaves no evidence of having read it."""
    Site(lab, opened(ref, keys("2026-01")), ref).backup()
    site = Site(lab, opened(ref, keys("2027-01")), ref)
    routine, one = job(lab, "backup.verify", store=ref)
    one.tools.archive = site.archive
    seen = routine.observe(one)
    (outcome,) = [routine.act(one, action) for action in routine.plan(one, seen).actions]
    found = [*routine.judge(one, seen).findings, *outcome.findings]
    assert [(f.check, f.severity, f.subject) for f in found] == [("key", Severity.UNKNOWN, "shop/shop")]
    assert "was made with key 2026-01" in found[0].message and "2026-01" in found[0].hint
    assert outcome.evidence == {}


def test_rotation(lab: World, opened: Any, ref: StoreRef) -> None:
    """From no key to one, and on to the next: what was made before stays readable until its key goes."""
    plain = Site(lab, raw(opened, ref), ref).backup()
    first = Site(lab, opened(ref, keys("2026-01")), ref).backup()
    site = Site(lab, opened(ref, keys("2027-01", "2026-01", "2027-01")), ref)
    second = site.backup()
    assert [k.manifest.key_id for k in (plain, first, second)] == ["", "2026-01", "2027-01"]
    assert all(site.check(k.manifest.id).ok for k in (plain, first, second))
    later = Site(lab, opened(ref, keys("2027-01")), ref)
    assert later.check(second.manifest.id).ok
    with pytest.raises(NoKeyError, match="made with key 2026-01"):
        later.check(first.manifest.id)


def test_restored_by_hand(lab: World, opened: Any, tmp_path: Path) -> None:
    """A downloaded backup, the key file, one command, plain pg_restore: the rows are there."""
    ref = StoreRef(url=f"file://{tmp_path}/kept", key_conn_id="key")
    kept = Site(lab, opened(ref, keys("2026-01")), ref).backup()
    (tmp_path / "key").write_text(json.dumps({"keys": {"2026-01": KEY["2026-01"]}}))
    folder = tmp_path / "kept/shop/shop" / kept.manifest.id
    command = [sys.executable, "-m", "upkeep.adapters.encryption", "decrypt", "--key-file", tmp_path / "key"]
    done = subprocess.run(
        [*command, folder, tmp_path / "out"], check=False, capture_output=True, text=True, env={"PYTHONPATH": "plugins"}
    )
    assert done.returncode == 0, done.stderr
    lab.restore(tmp_path / "out", "by_hand")
    with lab.connect("by_hand") as connection:
        assert connection.execute("select count(*) from t").fetchone() == (20_000,)


def test_large_objects_go_in_parts_with_little_memory(opened: Any, ref: StoreRef, tmp_path: Path) -> None:
    """Several parts, and sizes around the border of one: as they were."""
    store = opened(ref, keys("2026-01"))
    for size in (PART - 200, PART, 2 * PART + 12_345):
        data = hashlib.shake_128(b"%d" % size).digest(size)
        (tmp_path / "f").write_bytes(data)
        assert store.write("a/f", tmp_path / "f") == (size, hashlib.sha256(data).hexdigest())
        with store.read("a/f") as blocks:
            assert b"".join(blocks) == data
        assert next(iter(store.list("a/"))).size == size
    assert list(store.uploads("")) == []


def test_keys_do_not_reach_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Airflow hides keys in extra as well, once a store was opened with them."""
    from airflow.sdk._shared.secrets_masker.secrets_masker import redact

    keys_of(keys("2027-01", "2026-01", "2027-01", naming=KEY["x"]))
    logging.getLogger("test").warning("%s", redact(f"see {KEY['2026-01']} {KEY['2027-01']} {KEY['x']}"))
    assert not any(key in caplog.text for key in KEY.values())


# -- object lock and storage classes -----------------------------------------------------------------------------------


def locked(tmp_path: Path, **more: Any) -> StoreRef:
    """Return a place of the test's own in the bucket that locks."""
    url = f"s3://{LOCKED}/{tmp_path.name.replace('_', '-')}"
    return StoreRef(url=url, conn_id="store", lock_days=DAYS, key_conn_id="key", **more)


def retained(lab: World, ref: StoreRef) -> dict[str, datetime | None]:
    """Return until when each object is locked."""
    client, prefix = lab.s3.client(), ref.url.removeprefix(f"s3://{LOCKED}/")
    listed = client.list_objects_v2(Bucket=LOCKED, Prefix=prefix)["Contents"]
    heads = {entry["Key"]: client.head_object(Bucket=LOCKED, Key=entry["Key"]) for entry in listed}
    return {key.rsplit("/", 1)[1]: head.get("ObjectLockRetainUntilDate") for key, head in heads.items()}


def test_a_finished_backup_is_locked(lab: World, opened: Any, tmp_path: Path) -> None:
    """Every object, manifest included; removing says until when, changes nothing, and survives pickling."""
    ref = locked(tmp_path)
    site = Site(lab, opened(ref, keys("2026-01")), ref)
    kept = site.backup()
    until = retained(lab, ref)
    assert set(until) == {"manifest.json", *(f.name for f in kept.manifest.files)}
    soon = datetime.now(UTC) + timedelta(days=DAYS)
    assert all(moment and abs(moment - soon) < timedelta(minutes=2) for moment in until.values())
    for item in list(site.store.list("shop/shop/")):
        with pytest.raises(LockedError, match=r"is locked until 20\d\d-") as caught:
            site.store.delete([item.key])
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.until, str(again)) == (caught.value.until, str(caught.value))
    assert site.check(kept.manifest.id).ok
    assert retained(lab, ref) == until


def test_an_overwritten_object_can_be_brought_back(lab: World, opened: Any, tmp_path: Path) -> None:
    """Whoever overwrites or hides a locked object has only laid something over it: verification notices, and taking
    away what lies above brings the backup back."""
    ref = locked(tmp_path)
    site = Site(lab, opened(ref, keys("2026-01")), ref)
    kept = site.backup()
    client, key = lab.s3.client(), f"{ref.url.removeprefix(f's3://{LOCKED}/')}/shop/shop/{kept.manifest.id}/toc.dat"
    client.put_object(Bucket=LOCKED, Key=key, Body=b"ransom")
    assert not site.check(kept.manifest.id).ok
    client.delete_object(Bucket=LOCKED, Key=key)
    with pytest.raises(DamagedError, match="missing"), site.store.read(f"shop/shop/{kept.manifest.id}/toc.dat"):
        pass
    with pytest.raises(LockedError):
        site.store.delete([f"shop/shop/{kept.manifest.id}/toc.dat"])
    assert site.check(kept.manifest.id).ok


def test_a_lock_is_never_shortened(lab: World, opened: Any, tmp_path: Path) -> None:
    """An object that several backups share keeps the longest of their locks; a longer one prolongs it."""
    ref = locked(tmp_path)
    store = opened(ref, keys("2026-01"))
    store.write_bytes("a/x", b"x")
    for days, expected in ((30, 30), (10, 30), (40, 40)):
        opened(ref.model_copy(update={"lock_days": days}), keys("2026-01")).lock(["a/x"])
        left = retained(lab, ref)["x"] - datetime.now(UTC)  # type: ignore[operator]
        assert abs(left - timedelta(days=expected)) < timedelta(minutes=2)


def test_what_a_failed_backup_leaves_can_be_removed(lab: World, opened: Any, tmp_path: Path) -> None:
    """Nothing is locked before it is a backup, and no version stays; only a kill between the locks and the manifest
    leaves objects, which the sweep passes over until their lock has run out."""
    ref = locked(tmp_path)
    store = opened(ref, keys("2026-01"))
    place = Place(store=ref, target="shop/shop")
    with pytest.raises(RuntimeError), Making(store, place, RUN) as making:
        making.store.write_bytes(f"{making.prefix}/1.dat", b"x")
        raise RuntimeError
    versions = lab.s3.client().list_object_versions(Bucket=LOCKED, Prefix=ref.url.removeprefix(f"s3://{LOCKED}/"))
    assert not {"Versions", "DeleteMarkers"} & set(versions)
    store.write_bytes("shop/shop/20200101T000000Z-0123abcd/1.dat", b"x")
    store.lock(["shop/shop/20200101T000000Z-0123abcd/1.dat"])
    assert backup_leftovers.sweep(store, "shop/shop", RUN, timedelta(0)) == []
    assert [i.key for i in store.list("shop/")] == ["shop/shop/20200101T000000Z-0123abcd/1.dat"]


def test_a_bucket_that_cannot_lock_is_refused(opened: Any) -> None:
    """At once, with the command that makes one that can."""
    ref = StoreRef(url=f"s3://{BUCKET}/x", conn_id="store", lock_days=1)
    with pytest.raises(ConfigurationError, match=r"has no object lock -> make a new bucket .*--object-lock-enabled"):
        opened(ref, None)


def test_storage_class_by_tier(lab: World, opened: Any, tmp_path: Path) -> None:
    """Data of a tier go to its class; manifest and marks stay where they can be read at once."""
    url = f"s3://{BUCKET}/{tmp_path.name.replace('_', '-')}"
    ref = StoreRef(url=url, conn_id="store", storage_class={"monthly": "STANDARD_IA"}, key_conn_id="key")
    site = Site(lab, opened(ref, keys("2026-01")), ref)
    client = lab.s3.client()
    for tier, expected in (("daily", "STANDARD"), ("monthly", "STANDARD_IA")):
        kept = site.backup(tier=tier)
        prefix = f"{url.removeprefix(f's3://{BUCKET}/')}/shop/shop/{kept.manifest.id}/"
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
        classes = {e["Key"].removeprefix(prefix): e.get("StorageClass", "STANDARD") for e in listed}
        assert classes.pop("manifest.json") == "STANDARD"
        assert set(classes.values()) == {expected}
    wrong = opened(ref.model_copy(update={"storage_class": {"daily": "NOPE"}}), keys("2026-01")).for_tier("daily")
    with pytest.raises(ConfigurationError, match="storage_class"):
        wrong.write_bytes("a/x", b"x")
