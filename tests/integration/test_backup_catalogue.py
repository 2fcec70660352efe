"""The routine that compares the catalogue of backups with the store: real server, real store, real ledger."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.backup_world import RUN, World, world
from upkeep.adapters.archive import make_archiver
from upkeep.adapters.object_store import Store
from upkeep.adapters.object_store_s3 import S3Store
from upkeep.core import backup as core
from upkeep.core.backup import Manifest, PhysicalManifest, TreeManifest
from upkeep.core.cadence import Window
from upkeep.core.catalogue import Entry
from upkeep.core.errors import TransientError
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Severity
from upkeep.core.routine import Routine
from upkeep.core.targets import FileSetTarget, PostgresTarget, SqliteTarget, StoreRef, Target
from upkeep.ledger import events as ev
from upkeep.ledger.catalogue import LedgerCatalogue
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger
from upkeep.routines.backup import _common, catalogue

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
DAILY = Window(start=NOW - timedelta(days=1), end=NOW)


@pytest.fixture(scope="module")
def lab() -> Iterator[World]:
    with world() as made:
        made.database("shop", "create table t as select generate_series(1, 100) as n")
        yield made


@pytest.fixture(scope="module")
def first(lab: World) -> Manifest:
    """The manifest of a real backup, which is copied where a test needs more of them."""
    return lab.backup().manifest


@pytest.fixture
def shop(lab: World, first: Manifest) -> World:
    lab.store.delete(lab.objects())
    lab.store.delete([item.key for item in lab.store.list("")])
    return lab


@pytest.fixture
def ledger(lab: World, tmp_path: Path) -> Iterator[Ledger]:
    name = f"ledger_{secrets.token_hex(4)}"
    lab.postgres.create_database(name)
    made = Ledger(lambda: lab.postgres.dsn(name), Spool(tmp_path / "spool"))
    yield made
    made.close()


def put(lab: World, manifest: Any, age_hours: int = 0, store: Store | None = None, **changes: Any) -> Any:
    """Store a backup: its manifest and one file beside it."""
    moment = NOW - timedelta(hours=age_hours)
    backup_id = f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    made = manifest.model_copy(update={"id": backup_id, "started": moment, "finished": moment, **changes})
    series = f"{made.target}+physical" if made.kind == "physical" else made.target
    for name, content in (("toc.dat", b"x"), (core.MANIFEST, core.encode(made))):
        (store or lab.store).write_bytes(f"{series}/{backup_id}/{name}", content)
    return made


def physical(dump: Manifest, **changes: Any) -> PhysicalManifest:
    """Return the manifest of a physical backup."""
    shared = dump.model_dump(include=set(core.BaseManifest.model_fields) - {"kind"})
    return PhysicalManifest(
        **{**shared, "source": dump.source, "timeline": 1, "start_lsn": "0/1", "end_lsn": "0/2", "checksums": True}
        | changes
    )


def job(lab: World, ledger: Ledger, target: Target | None = None, window: Window = DAILY, **settings: Any) -> Job:
    found = target or PostgresTarget(conn_id="db", id=lab.target, store=lab.place.store)
    tools = SimpleNamespace(
        archive=lab.archive, catalogue=LedgerCatalogue(ledger, ev.RunKey(dag_id="d", run_id="r")),
        now=lambda: NOW, log=logging.getLogger("test"), scratch=lab.scratch,
    )  # fmt: skip
    return Job(
        routine="backup.catalogue", target=found, system=SimpleNamespace(name="shop", store=None),  # type: ignore[arg-type]
        settings=catalogue.Settings(**settings), run_id=RUN, try_number=1, tools=tools, window=window,  # type: ignore[arg-type]
    )  # fmt: skip


def run(one: Job) -> dict[str, Finding]:
    """Run the routine's lifecycle; return its findings by check."""
    routine = Routine.load("upkeep.routines.backup.catalogue")
    seen = routine.observe(one)
    judged = routine.judge(one, seen)
    for action in routine.plan(one, seen).actions:
        copied = Action.model_validate_json(action.model_dump_json())
        routine.act(one, copied)
    return {finding.check: finding for finding in judged.findings}


def told(ledger: Ledger, manifest: Any, **evidence: Any) -> None:
    """Tell the ledger what a routine says about a backup."""
    key = ev.RoutineKey(dag_id="d", run_id=secrets.token_hex(4), routine="x", target=manifest.target, try_number=1)
    action = Action(name="x", subject="x", reason="x")
    closed: dict[str, Any] = {"system": "shop", "number": 1, "status": "done", "detail": ""}
    ledger.write(
        ev.RoutineOpened(at=NOW, routine=key, system="shop", role="dba", title="x"),
        ev.ActionOpened(at=NOW, routine=key, number=1, action=action),
        ev.ActionClosed(at=NOW, routine=key, evidence=evidence, **closed),
    )


def verified(ledger: Ledger, manifest: Any, ok: bool = True) -> None:
    told(ledger, manifest, verification={"id": manifest.id, "kind": manifest.kind, "ok": ok})


def ids(ledger: Ledger, target: str, kind: core.Kind = "dump") -> list[str]:
    return [entry.id for entry in LedgerCatalogue(ledger).entries(target, kind)]


def test_a_lost_ledger_is_rebuilt_from_the_manifests_alone(shop: World, first: Manifest, ledger: Ledger) -> None:
    """Both series go on record as their manifests tell; then there is nothing to do and nothing to say."""
    old = put(shop, first, 48, tier="monthly")
    new = put(shop, first, 24, key_id="k7")
    full = put(shop, physical(first), 20)
    more = put(shop, physical(first), 10, parent=full.id)
    shop.store.write_bytes(f"{shop.target}/20261120T000000Z-00000000/toc.dat", b"an unfinished one")
    assert {c: f.severity for c, f in run(job(shop, ledger)).items()} == {"unrecorded": Severity.INFO}
    dumps = LedgerCatalogue(ledger).entries(shop.target, "dump")
    assert [(e.id, e.tier, e.key_id) for e in dumps] == [(new.id, "daily", "k7"), (old.id, "monthly", "")]
    kept = dumps[1]
    assert (kept.manifest_sha256, kept.content_sha256) == (old.sha256, old.content_sha256)
    assert (kept.size_bytes, kept.finished) == (old.size_bytes, old.finished)
    assert kept.location == f"{shop.store.location}/{shop.target}/{old.id}"
    assert [(e.id, e.parent) for e in LedgerCatalogue(ledger).entries(shop.target, "physical")] == [
        (more.id, full.id),
        (full.id, None),
    ]
    assert not any(e.proved for e in dumps)
    assert run(job(shop, ledger)) == {}


def test_a_backup_that_was_just_made_is_known_and_well(shop: World, ledger: Ledger) -> None:
    """What the backup routine wrote to the ledger is what the manifest says: no finding, nothing to learn."""
    kept = shop.backup()
    told(ledger, kept.manifest, backup=_common.evidence(kept, 1))
    one = job(shop, ledger)
    assert catalogue.plan(one, catalogue.observe(one)).actions == ()
    assert run(one) == {}


def test_what_is_neither_there_nor_removed_is_lost(shop: World, first: Manifest, ledger: Ledger) -> None:
    """A warning that names them; critical when no proved one is left; a removal that was noted is no loss."""
    one, two, three = (put(shop, first, hours) for hours in (72, 48, 24))
    run(job(shop, ledger))
    verified(ledger, one)
    verified(ledger, two)
    told(ledger, three, removed={"backups": [{"id": three.id, "kind": "dump", "reason": "older than 7 days"}]})
    for gone in (one, three):
        shop.store.delete([key for key in shop.objects() if gone.id in key])
    lost = run(job(shop, ledger))["lost"]
    assert lost.severity is Severity.WARNING and one.id in lost.message and three.id not in lost.message
    assert one.id not in lost.subject and lost.subject == shop.target
    shop.store.delete([key for key in shop.objects() if two.id in key])
    lost = run(job(shop, ledger))["lost"]
    assert lost.severity is Severity.CRITICAL and two.id in lost.message and "proved" in lost.message


def test_a_rewritten_manifest_is_altered(shop: World, first: Manifest, ledger: Ledger) -> None:
    """Somebody who writes a manifest that is sound in itself does not deceive the record."""
    made = put(shop, first, 24)
    run(job(shop, ledger))
    forged = made.model_copy(update={"tables": ()})
    shop.store.write_bytes(f"{shop.target}/{made.id}/{core.MANIFEST}", core.encode(forged))
    found = run(job(shop, ledger))
    assert set(found) == {"altered"} and found["altered"].severity is Severity.CRITICAL
    assert forged.sha256 in found["altered"].message and made.sha256 in found["altered"].message
    assert LedgerCatalogue(ledger).entries(shop.target, "dump")[0].manifest_sha256 == made.sha256


@pytest.mark.parametrize("known", [True, False])
def test_a_manifest_that_cannot_be_read_is_critical(shop: World, first: Manifest, ledger: Ledger, known: bool) -> None:
    """Of a backup on record, and of one that nobody knows; it is not put on record then."""
    made = put(shop, first, 24)
    if known:
        run(job(shop, ledger))
    key = f"{shop.target}/{made.id}/{core.MANIFEST}"
    shop.store.write_bytes(key, core.encode(made).replace(b'"daily"', b'"dailz"'))
    found = run(job(shop, ledger))
    assert set(found) == {"manifest"} and found["manifest"].severity is Severity.CRITICAL
    assert made.id in found["manifest"].message
    assert ids(ledger, shop.target) == ([made.id] if known else [])


def test_every_manifest_gets_its_turn(shop: World, first: Manifest, ledger: Ledger) -> None:
    """A few in each run, the same for the same window, all of them over the days."""
    made = {put(shop, first, hours).id for hours in range(24, 24 * 6, 24)}
    run(job(shop, ledger))
    read: list[set[str]] = []
    for day in range(3):
        window = Window(start=NOW + timedelta(days=day - 1), end=NOW + timedelta(days=day))
        seen = [catalogue.observe(job(shop, ledger, window=window, reread=2)).series[0].reread for _ in range(2)]
        assert seen[0] == seen[1] and len(seen[0]) == 2
        read.append(set(seen[0]))
    assert set().union(*read) == made
    assert catalogue.observe(job(shop, ledger, reread=0)).series[0].reread == {}


def test_an_increment_without_its_parent_is_worth_nothing(shop: World, first: Manifest, ledger: Ledger) -> None:
    """Its parent is gone, however it went."""
    full = put(shop, physical(first), 20)
    put(shop, physical(first), 10, parent=full.id)
    run(job(shop, ledger))
    told(ledger, full, removed={"backups": [{"id": full.id, "kind": "physical", "reason": "by hand"}]})
    shop.store.delete([item.key for item in shop.store.list(f"{shop.target}+physical/{full.id}/")])
    found = run(job(shop, ledger))
    assert set(found) == {"chain"} and full.id in found["chain"].message


def test_a_backup_removed_while_we_look_is_not_lost(shop: World, first: Manifest, ledger: Ledger) -> None:
    """Retention works at the same time: between our two listings it removes one, and says so."""
    made, kept = put(shop, first, 48), put(shop, first, 24)
    run(job(shop, ledger))
    one = job(shop, ledger)
    listing, looks = one.tools.archive.stored, []

    def stored(place: Any) -> Any:
        looks.append(place)
        if len(looks) == 1:
            shop.store.delete([key for key in shop.objects() if made.id in key])
            seen = listing(place)
            told(ledger, made, removed={"backups": [{"id": made.id, "reason": "older than 7 days"}]})
            return seen
        return listing(place)

    one.tools.archive.stored = stored  # type: ignore[method-assign]
    assert run(one) == {}
    assert ids(ledger, shop.target) == [kept.id, made.id]


def test_an_old_record_is_completed(shop: World, first: Manifest, ledger: Ledger) -> None:
    """Records of older versions lack hashes; they get them from the manifest, and keep their proof."""
    made = put(shop, first, 24)
    told(ledger, made, backup={"id": made.id, "location": "s3://old"})
    verified(ledger, made)
    assert run(job(shop, ledger)) == {}
    (entry,) = LedgerCatalogue(ledger).entries(shop.target, "dump")
    assert entry.manifest_sha256 == made.sha256 and entry.location == "s3://old" and entry.proved


def test_without_a_ledger_nothing_is_known(shop: World, first: Manifest, tmp_path: Path) -> None:
    """Unknown, with what to do; the store is not even listed."""
    away = Ledger(lambda: "host=127.0.0.1 port=1 connect_timeout=1", Spool(tmp_path / "away"))
    put(shop, first, 24)
    found = run(job(shop, away))
    assert {c: f.severity for c, f in found.items()} == {"ledger": Severity.UNKNOWN}
    assert "upkeep_ledger" in found["ledger"].hint


def test_a_store_that_does_not_answer_is_tried_again(shop: World, ledger: Ledger) -> None:
    """An unreachable store says nothing about backups: no finding that they are lost."""
    one = job(shop, ledger)
    LedgerCatalogue(ledger).learn(
        [Entry(target=shop.target, kind="dump", id="20261101T000000Z-00000000", location="s3://x", finished=NOW)]
    )
    shop.s3.stop()
    try:
        with pytest.raises(TransientError):
            run(one)
    finally:
        shop.s3.start()


def test_further_copies_are_places_of_their_own(shop: World, first: Manifest, ledger: Ledger) -> None:
    """What lies in one place is not lost in the other; what is lost in one is told there; one proved copy is enough."""
    target = FileSetTarget(
        paths=("/x",),
        id="shop/files",
        store=StoreRef(url=f"{shop.store.location}/one", conn_id="store"),
        copies=(StoreRef(url=f"{shop.store.location}/two", conn_id="store"),),
    )
    stores = {url: S3Store(shop.s3.client(), "backups", url.removeprefix("s3://backups/")) for url in
              (target.store.url, target.copies[0].url)}  # type: ignore[union-attr] # fmt: skip
    one = job(shop, ledger, target)
    one.tools.archive = make_archiver(lambda _: shop.dsn, lambda ref: stores[ref.url], shop.scratch)
    shared = first.model_dump(include=set(core.BaseManifest.model_fields) - {"kind"}) | {"target": target.id}
    empty = dict.fromkeys(("total_bytes", "objects", "object_bytes", "new_objects", "new_bytes"), 0)
    tree = TreeManifest(**{**shared, "entries": {}, "list_sha256": "0" * 64, "read_all": NOW, **empty})
    made = {url: put(shop, tree, 24, store=store) for url, store in stores.items()}
    assert set(run(one)) == {"unrecorded"}
    assert run(one) == {}
    assert sorted(ids(ledger, target.id, "files")) == sorted(m.id for m in made.values())
    for copy in made.values():
        verified(ledger, copy)
    for url, store in stores.items():
        store.delete([item.key for item in store.list("")])
        lost = run(one)["lost"]
        assert made[url].id in lost.message and url in lost.message
        assert lost.severity is (Severity.WARNING if url == target.store.url else Severity.CRITICAL)  # type: ignore[union-attr]


def test_a_target_without_backups_says_nothing(shop: World, ledger: Ledger) -> None:
    """That there is none at all is for the verification to say."""
    target = SqliteTarget(path="/x/y.db", id="shop/file", store=shop.place.store)
    one = job(shop, ledger, target)
    seen = catalogue.observe(one)
    assert catalogue.judge(one, seen).findings == () and catalogue.plan(one, seen).actions == ()
    assert json.loads(seen.model_dump_json())["away"] is False
