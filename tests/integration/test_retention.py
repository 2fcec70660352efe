"""The routine of retention from observe to verify, with a real ledger, a bucket and a folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.object_store import ObjectStoreServer
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from tests.integration.retention_world import DAY, START, Shelf
from upkeep.adapters import backup_marker, tree_collect, tree_list
from upkeep.adapters.backup_making import Making
from upkeep.adapters.object_store import FolderStore
from upkeep.core import backup as core
from upkeep.core.backup import TreeManifest
from upkeep.core.errors import TransientError
from upkeep.core.model import Severity
from upkeep.core.retention import taken
from upkeep.core.tree import Entry as TreeEntry
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, ObjectStoreServer]]:
    with (
        scratch_folder() as folder,
        PostgresServer(18, folder / "ledger") as ledger,
        ObjectStoreServer(folder / "s3", buckets=["kept"]) as s3,
    ):
        s3.client().create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
        yield ledger, s3


def make_shelf(servers: Any, name: str, tmp_path: Path, kind: str, **more: Any) -> Shelf:
    ledger, s3 = servers
    database = f"r{hashlib.sha256(name.encode()).hexdigest()[:20]}"
    ledger.create_database(database)
    where: dict[str, Any] = {"folder": str(tmp_path / "kept")}
    if kind != "folder":
        where = {"endpoint": s3.endpoint_url, "key": s3.access_key, "secret": s3.secret_key, "bucket": kind,
                 "prefix": database, "lock_days": more.get("lock_days")}  # fmt: skip
    (tmp_path / "scratch").mkdir()
    return Shelf(where, ledger.dsn(database), tmp_path / "scratch", more={})


@pytest.fixture
def shelf(servers: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    made = make_shelf(servers, request.node.name, tmp_path, getattr(request, "param", "folder"))
    yield made
    made.close()


def dates(ids: set[str]) -> list[date]:
    return sorted(taken(i).date() for i in ids)


WANTED = [date(2026, 1, 18), date(2026, 1, 23), date(2026, 1, 24), date(2026, 1, 25)]  # of 25 daily ones, a Sunday last


@pytest.mark.parametrize("shelf", ["folder", "kept"], indirect=True)
def test_what_is_due_goes_and_the_rest_stays(shelf: Shelf) -> None:
    """Once agreed on, what no rule keeps is removed, on record with its reasons, and a second run changes nothing."""
    shelf.daily(25)
    summary, work, findings = shelf.run(share=1)
    assert (summary.severity, [f.check for f in findings]) == (Severity.OK, [])
    assert dates(shelf.whole()) == WANTED
    (action,) = work.planned
    assert len(action.details["backups"]) == 21
    assert all(b["reason"] for b in action.details["backups"])
    gone = {i for i, e in shelf.catalogue.items() if e.removed_at is not None}
    assert gone == {b["id"] for b in action.details["backups"]}
    _, again, findings = shelf.run(share=1)
    assert [a.reason for a in again.planned] == [
        "take away the notes on 21 removals that are on record or never came to be"
    ]
    assert findings == []
    _, third, _ = shelf.run(share=1)
    assert third.planned == ()
    assert not [key for key in shelf.listed() if key.endswith(core.TOMBSTONE)]


def test_a_dry_run_says_what_would_go_and_touches_nothing(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    """The log names every backup that would go, with why; the store is as before."""
    ids = shelf.daily(10)
    before = shelf.listed()
    with caplog.at_level("INFO"):
        _, work, _ = shelf.run(dry_run=True, share=1)
    assert shelf.listed() == before
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("would remove")]
    due = [b["id"] for b in work.planned[0].details["backups"]]
    assert due == [*ids[:3], *ids[4:7]]
    assert all(f"{i} (older than the 3 daily ones; " in line for i in due)
    assert re.search(rf"{ids[1]} \([^)]*month 2026-01 has {ids[-1]}", line)


def test_nothing_goes_while_the_ledger_is_away(shelf: Shelf) -> None:
    """Without the ledger nothing is known of any proof: an unknown finding with the cure, and nothing removed."""
    shelf.daily(25)
    away = Ledger(lambda: "host=127.0.0.1 port=1 connect_timeout=1", Spool(shelf.scratch / "away"))
    _, work, findings = shelf.run(ledger=away, share=1)
    assert [(f.check, f.severity) for f in findings] == [("ledger", Severity.UNKNOWN)]
    assert "upkeep_ledger" in findings[0].hint
    assert work.planned == ()
    assert len(shelf.whole()) == 25


def test_a_ledger_that_goes_between_plan_and_deed_stops_the_deed(shelf: Shelf) -> None:
    """What was planned with the ledger is not done without it: it is tried again."""
    shelf.daily(25)
    routine, one = shelf.job(share=1)
    actions = routine.plan(one, routine.observe(one)).actions
    away = Ledger(lambda: "host=127.0.0.1 port=1 connect_timeout=1", Spool(shelf.scratch / "away"))
    routine, blind = shelf.job(ledger=away, share=1)
    with pytest.raises(TransientError, match="ledger went away"):
        routine.act(blind, actions[0])
    assert len(shelf.whole()) == 25


def test_more_than_the_share_is_proposed_backup_by_backup(shelf: Shelf) -> None:
    """A removal of most of a series asks a person, who agrees to exactly the backups that are named."""
    shelf.daily(25)
    summary, work, _ = shelf.run()
    assert summary.severity is Severity.OK
    assert len(work.planned) == 21
    assert all("more than the share" in a.approval for a in work.planned)
    assert len(shelf.whole()) == 25
    agreed = frozenset((a.name, a.subject) for a in work.planned[:5])
    shelf.run(approved=agreed)
    assert len(shelf.whole()) == 20
    assert {e.id for e in shelf.catalogue.values() if e.removed_at} == {a.subject.split()[1] for a in work.planned[:5]}


def test_an_unproved_newest_backup_keeps_everything(shelf: Shelf) -> None:
    """The standstill is a note at first, and a warning when no backup has been proved for long."""
    shelf.daily(20)
    shelf.put(START + 20 * DAY, ok=None)
    shelf.now = START + 20 * DAY + timedelta(hours=1)
    _, work, findings = shelf.run(share=1)
    assert [(f.check, f.severity) for f in findings] == [("standstill", Severity.INFO)]
    assert work.planned == ()
    shelf.now += 20 * DAY
    _, _, findings = shelf.run(share=1)
    assert [(f.check, f.severity) for f in findings] == [("standstill", Severity.WARNING)]
    shelf.put(START + 41 * DAY, ok=False)
    shelf.now = START + 41 * DAY + timedelta(hours=1)
    _, _, findings = shelf.run(share=1)
    assert "suspicious" in findings[0].message
    assert len(shelf.whole()) == 22


def test_a_newest_backup_that_has_vanished_keeps_everything(shelf: Shelf) -> None:
    """When the store has lost the newest backup on record, somebody else removes there: nothing is removed by us."""
    ids = shelf.daily(10)
    shelf.store.delete([key for key in shelf.listed() if ids[-1] in key])
    _, work, findings = shelf.run(share=1)
    assert [f.check for f in findings] == ["standstill"]
    assert "is not in the store" in findings[0].message
    assert findings[0].severity is Severity.WARNING
    assert work.planned == ()


def test_holds_and_chains_of_the_system_file_are_kept(shelf: Shelf) -> None:
    """A hold of the target keeps its days, one of another target does not; a kept incremental keeps its parents."""
    shelf.more = {"holds": [
        {"reason": "case 7", "target": "db", "first": "2026-01-02", "last": "2026-01-02"},
        {"reason": "case 8", "target": "up", "first": "2026-01-03", "last": "2026-01-03"},
    ]}  # fmt: skip
    ids = shelf.daily(24)
    child = shelf.put(START + 24 * DAY, parent=ids[9])
    shelf.now = START + 24 * DAY + timedelta(hours=1)
    shelf.run(share=1)
    left = shelf.whole()
    assert {ids[1], ids[9], child} < left
    assert ids[2] not in left


def test_backups_of_the_future_and_unreadable_ones_are_told_and_kept(shelf: Shelf) -> None:
    """A wrong clock and a manifest that nobody can read are findings, and reasons to keep."""
    shelf.daily(10)
    strange = shelf.put(START + 400 * DAY)
    odd = f"{shelf.place.series}/20260102T000000Z-000000aa"
    shelf.store.write_bytes(f"{odd}/{core.MANIFEST}", b"{}")
    _, _, findings = shelf.run(share=1)
    assert {f.check: f.severity for f in findings} == {"future": Severity.WARNING, "unreadable": Severity.WARNING}
    there = {s.id for s in shelf.archive.stored(shelf.place) if s.complete}
    assert {strange, odd.rsplit("/", 1)[1]} < there
    assert len(there) < 12


def test_a_hold_that_comes_between_plan_and_deed_counts(shelf: Shelf) -> None:
    """The deed looks again: what has become wanted since the plan stays, and the outcome says why."""
    ids = shelf.daily(10)
    routine, one = shelf.job(share=1)
    (action,) = routine.plan(one, routine.observe(one)).actions
    shelf.more = {"holds": [{"reason": "case 9", "last": "2026-01-02"}]}
    routine, later = shelf.job(share=1)
    outcome = routine.act(later, action)
    assert {ids[0], ids[1]} < shelf.whole()
    assert "held: case 9" in outcome.evidence["passed"][ids[1]]


def test_the_review_tells_what_is_kept_and_what_goes_next(shelf: Shelf) -> None:
    """Counts for each tier, the oldest and the newest, bytes, and which backup goes on which day."""
    shelf.daily(25)
    shelf.run(share=1)
    _, work, findings = shelf.run(share=1, review=True)
    (review,) = [f for f in findings if f.check == "review"]
    assert review.severity is Severity.INFO
    for said in ("4 backups", "2026-01-18 to 2026-01-25", "3 of 3 daily", "2 of 2 weekly", "1 of 1 monthly"):
        assert said in review.message
    assert re.search(r"next: 20260118T\S+ on 2026-01-26, 20260123T\S+ on 2026-01-26", review.message)
    kept = next(a for a in work.planned if a.name == "review").details["kept"]
    assert len(kept) == 4
    assert all(kept.values())


def test_what_is_cut_off_is_ended_by_the_next_backup_or_retention(shelf: Shelf) -> None:
    """Files of a removal that was cut off are swept at once by either; the ledger is told by retention, once."""
    ids = shelf.daily(6)
    note = (
        f"{shelf.place.series}/{ids[1]}/{core.TOMBSTONE}",
        b'{"id": "x", "reason": "old", "at": "2026-01-09T00:00Z"}',
    )
    shelf.store.write_bytes(*note)
    assert ids[1] in shelf.whole()  # killed before the manifest went: still a backup
    shelf.store.delete([f"{shelf.place.series}/{ids[1]}/{core.MANIFEST}"])
    (left,) = shelf.archive.leftovers(shelf.place, "other", timedelta(hours=2))
    assert left.reason == "its removal was not completed"
    shelf.archive.sweep(shelf.place, "other", timedelta(hours=2))
    assert [key for key in shelf.listed() if ids[1] in key] == [note[0]]
    assert shelf.archive.leftovers(shelf.place, "other", timedelta(hours=2)) == ()
    assert shelf.catalogue[ids[1]].removed_at is None
    shelf.run(share=1)
    assert shelf.catalogue[ids[1]].removed_at is not None
    shelf.run(share=1)
    assert not [key for key in shelf.listed() if ids[1] in key]


def test_a_removal_that_never_came_to_be_leaves_no_note(shelf: Shelf) -> None:
    """A note beside a backup that is to stay is taken away; the backup stays whole."""
    ids = shelf.daily(3)
    shelf.store.write_bytes(f"{shelf.place.series}/{ids[2]}/{core.TOMBSTONE}", b"?")
    shelf.run()
    assert ids[2] in shelf.whole()
    assert not [key for key in shelf.listed() if key.endswith(core.TOMBSTONE)]
    assert shelf.catalogue[ids[2]].removed_at is None


def test_one_that_is_being_made_is_not_removed(shelf: Shelf) -> None:
    """`remove` leaves alone what has no manifest and no note: somebody may be writing it."""
    prefix = f"{shelf.place.series}/20260102T000000Z-000000aa"
    shelf.store.write_bytes(f"{prefix}/1.dat", b"x")
    assert shelf.archive.remove(shelf.place, "20260102T000000Z-000000aa", "old").objects == 0
    assert shelf.listed() == [f"{prefix}/1.dat"]


def test_what_the_bucket_locks_is_a_note_and_goes_later(servers: Any, tmp_path: Path) -> None:
    """Under object lock removal is refused by the store itself: no error, nothing torn, tried again later."""
    shelf = make_shelf(servers, "locked", tmp_path, "locked", lock_days=2)
    today = datetime.now(UTC)
    for n in range(6):
        shelf.put(today - (20 - n) * DAY)  # dated before; the bucket counts from now
    shelf.more = {"store": {"url": shelf.url, "conn_id": "store", "lock_days": 2}}
    shelf.now = today
    before = shelf.listed()
    summary, _, findings = shelf.run(share=1)
    assert summary.severity is Severity.INFO
    assert [(f.check, f.severity) for f in findings] == [("locked", Severity.INFO)]
    assert shelf.listed() == before
    assert len(shelf.whole()) == 6
    assert not any(e.removed_at for e in shelf.catalogue.values())
    shelf.close()


# ------------------------------------------------------------------------------------------------ file trees


def put_tree(shelf: Shelf, moment: datetime, contents: list[bytes]) -> str:
    """Store a backup of a tree by hand."""
    backup_id, series = f"{moment:%Y%m%dT%H%M%SZ}-00000000", shelf.place.series
    entries = []
    for n, data in enumerate(contents):
        name = hashlib.sha256(data).hexdigest()
        shelf.store.write_bytes(tree_list.key_of(series, name), data)
        entries.append(TreeEntry(name=f"f{n}", type="f", mode=0o644, uid=0, gid=0, mtime_ns=0, size=len(data),
                                 sha256=name, object=name))  # fmt: skip
    written = tree_list.write(shelf.store, f"{series}/{backup_id}", "/base", entries)
    manifest = TreeManifest(
        id=backup_id, target=shelf.target, run_id="r", started=moment, finished=moment, tools={}, settings={},
        files=(written,), entries={"file": len(entries)}, total_bytes=9, objects=len(entries), object_bytes=9,
        new_objects=1, new_bytes=1, list_sha256="0" * 64, read_all=moment,
    )  # fmt: skip
    shelf.store.write_bytes(f"{series}/{backup_id}/{core.MANIFEST}", core.encode(manifest))
    facts = {"id": backup_id, "kind": "files", "finished": moment.isoformat(), "location": f"{shelf.url}/x"}
    shelf.tell(moment, backup=facts)
    shelf.tell(moment, verification={"id": backup_id, "kind": "files", "ok": True})
    return backup_id


def objects(shelf: Shelf) -> int:
    return len(list(shelf.store.list(f"{shelf.place.series}/objects/")))


@pytest.fixture
def trees(shelf: Shelf) -> Shelf:
    shelf.target = "shop/up"
    for n in range(8):
        put_tree(shelf, START + n * DAY, [b"in all", f"of day {n}".encode()])
    shelf.now = START + 7 * DAY + timedelta(hours=1)
    return shelf


def collect(shelf: Shelf, grace: timedelta = timedelta(seconds=-5)) -> core.Collected:
    return shelf.archive.collect(shelf.place, "run", timedelta(hours=2), grace)


def test_contents_that_no_backup_refers_to_are_collected_when_old_enough(trees: Shelf) -> None:
    """Removing tree backups leaves shared contents; what nothing refers to goes after the grace period."""
    trees.run(share=1)
    left = [s.id for s in trees.archive.stored(trees.place) if s.complete]
    assert 3 <= len(left) < 8
    assert objects(trees) == 9  # too young
    done = collect(trees)
    assert (done.objects, done.kept, done.reason) == (8 - len(left), len(left) + 1, "")
    assert collect(trees).objects == 0
    for backup_id in left:
        manifest = trees.archive.manifest(trees.place, backup_id)
        assert isinstance(manifest, TreeManifest)
        for key in tree_list.contents(trees.store, manifest, f"{trees.place.series}/{backup_id}"):
            with trees.store.read(key) as blocks:
                assert b"".join(blocks)


def test_nothing_is_collected_while_a_backup_is_made_or_a_list_is_damaged(trees: Shelf) -> None:
    """A writer at work may rely on any content, and a list that cannot be read may name any: both stop collection."""
    trees.store.write_bytes(tree_list.key_of(trees.place.series, "ab" * 32), b"nobody's")
    with Making(trees.store, trees.place, "other"):
        # It is the mark of another process of this machine that counts.
        mark = next(key for key in trees.listed() if key.endswith(core.MARKER))
        ours = backup_marker.ours("other", datetime.now(UTC))
        trees.store.write_bytes(mark, ours.model_copy(update={"pid": 1, "machine": "elsewhere"}).encode())
        assert "is being made" in collect(trees).reason
    listed = next(key for key in trees.listed() if key.endswith("tree.jsonl.gz"))
    with trees.store.read(listed) as blocks:
        data = b"".join(blocks)
    trees.store.write_bytes(listed, data[:-9])
    done = collect(trees)
    assert (done.objects, done.unknown) == (0, True)
    trees.store.write_bytes(listed, data)
    assert collect(trees).objects == 1


def test_a_writer_gives_way_to_a_collection_and_not_to_a_dead_one(trees: Shelf) -> None:
    """A mark of a living collection stops a tree backup before it relies on anything; a dead one's is cleared."""
    mark = f"{trees.place.series}/{tree_collect.COLLECTING}/1.json"
    ours = backup_marker.ours("other", datetime.now(UTC))
    trees.store.write_bytes(mark, ours.model_copy(update={"machine": "elsewhere"}).encode())
    with pytest.raises(TransientError, match="being removed"):
        tree_collect.expect_no_collection(trees.store, trees.place.series)
    trees.store.write_bytes(mark, ours.model_copy(update={"pid": 2**22 + 1}).encode())
    tree_collect.expect_no_collection(trees.store, trees.place.series)
    collect(trees)
    assert mark not in trees.listed()


def test_copies_are_thinned_out_like_the_first_place(trees: Shelf, tmp_path: Path) -> None:
    """Each copy of a file set is a series of its own, by its own store's content."""
    first = trees.where["folder"]
    copy = f"file://{tmp_path}/copy"
    for item in list(FolderStore(Path(first)).list("shop/up/")):
        with trees.store.read(item.key) as blocks:
            FolderStore(tmp_path / "copy").write_bytes(item.key, b"".join(blocks))
    trees.more = {"targets": {"up": {"kind": "files", "paths": ["/nowhere"], "copies": [{"url": copy}]}}}
    routine, one = trees.job(share=1)
    assert [s.subject for s in routine.observe(one).series] == ["shop/up", f"shop/up in {copy}"]
