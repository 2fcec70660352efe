"""The routine of file backups from observe to verify, to a folder and to a bucket."""

from __future__ import annotations

import base64
import json
import logging
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.servers import ObjectStoreServer
from tests.integration.tree_world import BUCKET, RUN
from upkeep.adapters import archive, object_store, tree_backup
from upkeep.core.backup import Place
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.errors import ConfigurationError, TransientError
from upkeep.core.job import Job
from upkeep.core.model import Begun, Ended, OutcomeStatus, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import FileSetTarget, ModelTarget, StoreRef

ROUTINE = Routine.load("upkeep.routines.backup.files")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    with ObjectStoreServer(tmp_path_factory.mktemp("s3"), buckets=[BUCKET]) as server:
        yield server


class Site:
    """A target, the connections it names, and a routine that runs on it."""

    def __init__(self, home: Path, s3: ObjectStoreServer) -> None:
        self.home, self.s3 = home, s3
        self.entries: tuple[Entry, ...] = ()  # of the catalogue
        self.history: dict[str, list[float]] = {}
        for name in ("tree", "scratch"):
            (home / name).mkdir()
        self.folder = StoreRef(url=f"file://{home}/kept")
        self.bucket = StoreRef(url=f"s3://{BUCKET}/{home.name}", conn_id="store")

    def connection(self, conn_id: str) -> Any:
        """Return an Airflow connection."""
        from airflow.sdk import Connection

        if conn_id == "key":
            extra = {"keys": {"k1": base64.b64encode(b"1" * 32).decode()}}
            return Connection(conn_id="key", conn_type="generic", login="k1", extra=json.dumps(extra))
        endpoint = {"endpoint_url": self.s3.endpoint_url, "region_name": "us-east-1"}
        keys = {"login": self.s3.access_key, "password": self.s3.secret_key}
        return Connection(conn_id=conn_id, conn_type="aws", **keys, extra=json.dumps(endpoint))

    def target(self, **more: Any) -> FileSetTarget:
        """Return the target."""
        given = {"paths": (f"{self.home}/tree/**",), "id": "shop/files", "store": self.folder, **more}
        return FileSetTarget(**given)

    def job(self, target: Any = None, **settings: Any) -> Job[Any, Any]:
        """Return the routine's job."""
        stores, now = object_store.opener(self.connection), datetime.now(UTC)
        tools = SimpleNamespace(
            archive=archive.make_archiver(str, stores, self.home / "scratch"),
            trees=tree_backup.make_trees(stores, self.home / "scratch"),
            catalogue=SimpleNamespace(entries=lambda *_: self.entries),
            history=SimpleNamespace(
                series=lambda name, limit: [SimpleNamespace(value=v) for v in self.history.get(name, [])][-limit:]
            ),
            now=lambda: datetime.now(UTC), log=logging.getLogger("test"),
        )  # fmt: skip
        return Job(
            routine="backup.files", target=target or self.target(), settings=ROUTINE.settings(**settings), run_id=RUN,
            system=SimpleNamespace(name="shop", store=None), try_number=1, tools=tools,  # type: ignore[arg-type]
            window=Window(start=now - timedelta(days=1), end=now),
        )  # fmt: skip

    def run(self, target: Any = None, **settings: Any) -> tuple[list[Any], list[Any]]:
        """Run the lifecycle; return its outcomes and all its findings."""
        job = self.job(target, **settings)
        seen = ROUTINE.observe(job)
        found = list(ROUTINE.judge(job, seen).findings)
        outcomes: list[Any] = []
        if actions := ROUTINE.plan(job, seen).actions:
            assert ROUTINE.act_all is not None
            steps = [step for batch in ROUTINE.act_all(job, actions) for step in batch]
            assert [type(step) for step in steps] == [Begun, Ended] * len(actions)
            outcomes = [step.outcome for step in steps if isinstance(step, Ended)]
        found += [finding for outcome in outcomes for finding in outcome.findings]
        return outcomes, found + list(ROUTINE.verify(job, seen, tuple(outcomes)).findings)

    def write(self, count: int = 5) -> None:
        """Fill the tree."""
        for number in range(count):
            (self.home / f"tree/{number}.txt").write_text(f"text {number}")


@pytest.fixture
def site(tmp_path: Path, s3: ObjectStoreServer) -> Site:
    made = Site(tmp_path, s3)
    made.write()
    return made


def checks(findings: list[Any]) -> list[tuple[str, Severity]]:
    return [(finding.check, finding.severity) for finding in findings]


def test_every_place_gets_the_backup(site: Site) -> None:
    """The folder and the bucket each hold a backup that is complete on its own; a healthy tree gives no finding."""
    target = site.target(copies=(site.bucket,))
    outcomes, findings = site.run(target)
    assert findings == []
    assert [o.status for o in outcomes] == [OutcomeStatus.DONE] * 2
    made = [o.evidence["backup"] for o in outcomes]
    assert len({m["content_sha256"] for m in made}) == 1
    assert [m["store"] for m in made] == [site.folder.url, site.bucket.url]
    assert made[0]["entries"] == {"file": 5}
    measured = {m.name: m.value for m in outcomes[0].measurements}
    assert measured["backup.files"] == 5
    assert measured["backup.bytes"] == 30
    assert site.run(target)[1] == []
    trees = site.job().tools.trees
    shutil.rmtree(site.home / "kept")  # the copy needs nothing of the first place
    place = trees.last(site_place(target, site.bucket))
    trees.restore(site_place(target, site.bucket), place.id, site.home / "back", (), lambda _: None)
    assert (site.home / "back/3.txt").read_text() == "text 3"


def site_place(target: Any, store: StoreRef) -> Any:
    from upkeep.core.backup import Place

    return Place(store=store, target=target.id, kind="files")


def test_a_place_that_fails_does_not_spoil_the_other(site: Site) -> None:
    """A bucket that is not there is critical and told; a disk that is full is tried again; the other has its backup."""
    wrong = StoreRef(url="s3://no-such-bucket/x", conn_id="store")
    outcomes, findings = site.run(site.target(store=wrong, copies=(site.folder,)))
    assert [o.status for o in outcomes] == [OutcomeStatus.FAILED, OutcomeStatus.DONE]
    assert checks(findings) == [("place", Severity.CRITICAL)]
    assert "NoSuchBucket" in findings[0].message
    away = site.bucket.model_copy(update={"conn_id": "away"})
    real = site.connection

    def connection(conn_id: str) -> Any:
        found = real(conn_id)
        if conn_id == "away":
            found.extra = json.dumps({"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"})
        return found

    site.connection = connection  # type: ignore[method-assign]
    before = len(list((site.home / "kept/shop/files").iterdir()))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9"):
        site.run(site.target(store=away, copies=(site.folder,)))
    assert len(list((site.home / "kept/shop/files").iterdir())) == before + 1
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9"):
        site.run(site.target(store=away))


def test_an_empty_tree_is_critical_and_makes_no_backup(site: Site) -> None:
    """A volume that is not mounted must not push good backups out of the store."""
    site.run()
    before = sorted((site.home / "kept").rglob("*"))
    shutil.rmtree(site.home / "tree")
    outcomes, findings = site.run()
    assert outcomes == []
    assert checks(findings) == [("empty", Severity.CRITICAL)]
    assert sorted((site.home / "kept").rglob("*")) == before


def test_a_tree_that_shrank_is_told_and_backed_up(site: Site) -> None:
    """Half of the files and fewer is a warning, a tenth and fewer critical; the backup is made all the same."""
    site.write(100)
    site.run()
    for number in range(60):
        (site.home / f"tree/{number}.txt").unlink()
    outcomes, findings = site.run()
    assert checks(findings) == [("shrunk", Severity.WARNING)]
    assert outcomes[0].status is OutcomeStatus.DONE
    for number in range(60, 98):
        (site.home / f"tree/{number}.txt").unlink()
    assert checks(site.run()[1]) == [("shrunk", Severity.CRITICAL)]
    assert site.run()[1] == []


def test_a_named_file_that_is_gone_is_told(site: Site) -> None:
    """A path without wildcards at which there is nothing is a warning; a glob without matches is not."""
    target = site.target(paths=(f"{site.home}/tree/*.txt", f"{site.home}/tree/*.gone", f"{site.home}/tree/.env"))
    assert checks(site.run(target)[1]) == [("missing", Severity.WARNING)]


def test_what_the_store_lost_is_told(site: Site) -> None:
    """Objects that an earlier backup needs and that are gone are critical."""
    site.run()
    shutil.rmtree(site.home / "kept/shop/files/objects")
    assert checks(site.run()[1]) == [("lost", Severity.CRITICAL)]
    assert site.run()[1] == []


def test_secret_names_stay_secret(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Without a key it is refused; with one neither log nor finding nor evidence nor the store tells a name."""
    (site.home / "tree/topsecret.env").write_text("PASSWORD=x")
    with pytest.raises(ConfigurationError, match="key_conn_id"):
        site.run(site.target(secret=True))
    safe = site.folder.model_copy(update={"key_conn_id": "key"})
    with pytest.raises(ConfigurationError, match="s3://trees"):  # each place must
        site.run(site.target(secret=True, store=safe, copies=(site.bucket,)))
    caplog.set_level(logging.DEBUG)
    outcomes, findings = site.run(site.target(secret=True, store=safe), progress_seconds=1)
    assert findings == []
    assert outcomes[0].evidence["backup"]["key_id"] == "k1"
    said = caplog.text + "".join(o.model_dump_json() for o in outcomes)
    stored = b"".join(path.read_bytes() for path in (site.home / "kept").rglob("*") if path.is_file())
    assert "read: 6 of 6 files" in said
    assert "topsecret" not in said
    assert b"topsecret" not in stored


def test_leftovers_are_swept_first(site: Site) -> None:
    """What a dead writer left, parts of large objects in the bucket among it, is planned to go and goes."""
    target = site.target(store=site.bucket)
    site.run(target)
    client, key = site.s3.client(), f"{site.home.name}/shop/files/objects/ab/abc"
    client.create_multipart_upload(Bucket=BUCKET, Key=key)
    old = f"{site.home.name}/shop/files/20200101T000000Z-0123abcd/started.json"
    client.put_object(Bucket=BUCKET, Key=old, Body=b"{}")
    outcomes, findings = site.run(target)
    assert len(outcomes) == 1  # both may still be somebody's
    job = site.job(target)
    trees, place = job.tools.trees, site_place(target, site.bucket)
    assert [left.kind for left in trees.sweep(place, timedelta(seconds=-5))] == ["upload"]
    assert trees.leftovers(place, timedelta(seconds=-5)) == ()
    assert findings == []


def test_models_are_backed_up(site: Site) -> None:
    """Of a model its named files and its metadata go into the backup, or the whole folder."""
    for name in ("risk.json", "model_metadata.yaml", "notes.txt"):
        (site.home / "tree" / name).write_text(name)
    given: dict[str, Any] = {"path": f"{site.home}/tree", "id": "shop/model", "store": site.folder}
    some = ModelTarget(**given, files=("*.pkl", "*.json"), metadata="model_metadata.yaml")
    outcomes, findings = site.run(some)
    assert (findings, outcomes[0].evidence["backup"]["entries"]) == ([], {"file": 2})
    assert site.run(ModelTarget(**given))[0][0].evidence["backup"]["entries"] == {"file": 8}


def test_what_was_found_damaged_is_stored_anew_and_heals(site: Site) -> None:
    """A damaged object has its old name and size: without the verification's word each new backup would rely on it."""
    data = bytes(100_000)
    (site.home / "tree/large").write_bytes(data)
    made = site.run()[0][0].evidence["backup"]
    path = next(p for p in (site.home / "kept").rglob("objects/*/*") if p.stat().st_size == len(data))
    path.write_bytes(b"1" + data[1:])
    seen = {"verified_at": datetime.now(UTC) + timedelta(seconds=1), "verified_ok": False}
    fields = {name: made[name] for name in ("id", "kind", "location", "finished")}
    site.entries = (Entry(target="shop/files", **fields, **seen),)
    fresh = site.run()[0][0].evidence["backup"]
    archiver = site.job().tools.archive
    place = Place(store=site.folder, target="shop/files", kind="files")
    assert [archiver.check(place, b["id"], True, "", print).ok for b in (fresh, made)] == [True, True]
    assert site.entries[0].verified_at is not None
    later = {"id": f"{site.entries[0].verified_at + timedelta(seconds=1):%Y%m%dT%H%M%SZ}-00000000"}
    site.entries = (*site.entries, site.entries[0].model_copy(update={**later, "verified_ok": None}))
    assert site.run()[0][0].evidence["backup"]["new_objects"] == 0


def test_a_volume_that_is_not_mounted_any_more_is_told(site: Site) -> None:
    """Its folder is there, and empty; the other path has so many files that the set has hardly shrunk."""
    (site.home / "volume").mkdir()
    (site.home / "volume/upload").write_text("text")
    paths = (f"{site.home}/tree/**", f"{site.home}/volume/**", f"{site.home}/tree/*.none")
    assert site.run(site.target(paths=paths))[1] == []
    (site.home / "volume/upload").unlink()
    assert site.run(site.target(paths=paths))[1] == []  # nobody knows that it was ever otherwise
    site.history["tree.idle"] = [1.0, 1.0, 2.0]
    found = site.run(site.target(paths=paths))[1]
    assert checks(found) == [("missing", Severity.WARNING)]
    assert "2 of its paths match nothing, lately 1 did" in found[0].message
