"""The catalogue of backups in a real ledger: what routines say of backups, in any order, exactly once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from lab.postgres import PostgresServer
from lab.process import scratch_folder
from upkeep.core.catalogue import Entry
from upkeep.core.model import Action
from upkeep.ledger import events as ev
from upkeep.ledger import store
from upkeep.ledger.catalogue import LedgerCatalogue
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

AT = datetime(2026, 11, 21, 1, tzinfo=UTC)
TARGET = "claims/db"
B1, B2 = "20261121T010000Z-0a0b0c0d", "20261122T010000Z-0a0b0c0e"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with scratch_folder() as folder, PostgresServer(18, folder / "ledger") as running:
        yield running


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    name = f"c{hashlib.sha256(request.node.name.encode()).hexdigest()[:20]}"
    server.create_database(name)
    return server.dsn(name)


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(lambda: database, Spool(tmp_path / "spool"))
    yield made
    made.close()


def told(number: int, at: datetime = AT, routine: str = "backup.postgres", **evidence: Any) -> list[ev.Event]:
    """Return what a routine says when an action ends with this evidence."""
    key = ev.RoutineKey(dag_id="d", run_id=f"r{number}", routine=routine, target=TARGET, try_number=1)
    action = Action(name="x", subject=f"{number}", reason="y")
    closed: dict[str, Any] = {"system": "claims", "number": 1, "status": "done", "detail": "", "evidence": evidence}
    return [
        ev.RoutineOpened(at=at, routine=key, system="claims", role="dba", title="T"),
        ev.ActionOpened(at=at, routine=key, number=1, action=action),
        ev.ActionClosed(at=at, routine=key, **closed),
    ]


def made(backup_id: str = B1, kind: str = "dump", **more: Any) -> dict[str, Any]:
    """Return the evidence of a backup, as `routines.backup._common.evidence` writes it."""
    return {
        "id": backup_id,
        "kind": kind,
        "tier": "weekly",
        "parent": None,
        "key_id": "k1",
        "location": f"s3://b/{TARGET}/{backup_id}",
        "manifest_sha256": "a" * 64,
        "content_sha256": "c" * 64,
        "size_bytes": 5,
        "source_bytes": 9,
        "started": AT.isoformat(),
        "finished": (AT + timedelta(minutes=5)).isoformat(),
        **more,
    }


def tested(backup_id: str = B1, ok: bool = True, **more: Any) -> dict[str, Any]:
    """Return the evidence of a restore test."""
    return {
        "id": backup_id,
        "kind": "dump",
        "ok": ok,
        "started": AT.isoformat(),
        "phases": {"fetch": 1.5, "restore": 20.0, "compare": 4.0},
        "rto_seconds": 3600,
        "age_seconds": 86_000,
        "rpo_seconds": 90_000,
        "differences": [],
        "smoke": {"claims": "ok"},
        "server_version": "18.0",
        "method": "local",
        **more,
    }


STORY = (
    told(1, AT, backup=made()),
    told(2, AT + timedelta(hours=1), "backup.verify", verification={"id": B1, "kind": "dump", "ok": True}),
    told(3, AT + timedelta(hours=2), "backup.restore_test", restore_test=tested()),
    told(4, AT + timedelta(days=9), "backup.retention", removed={"backups": [{"id": B1, "reason": "older than 7 d"}]}),
)


def rows(ledger: Ledger, table: str) -> list[dict[str, Any]]:
    with psycopg.connect(ledger._conninfo(), row_factory=dict_row) as connection:
        return connection.execute(f"select * from upkeep.{table}".encode()).fetchall()


def test_what_is_said_of_a_backup_stands_in_the_catalogue(ledger: Ledger):
    """Kind, tier, key, verification, restore test with its phases, and removal with its reason."""
    for events in STORY[:3]:
        assert ledger.write(*events)
    (entry,) = LedgerCatalogue(ledger).entries(TARGET, "dump")
    assert (entry.tier, entry.key_id, entry.verified_ok, entry.tested_ok) == ("weekly", "k1", True, True)
    assert entry.finished == AT + timedelta(minutes=5) and entry.tested_at == AT + timedelta(hours=2)
    assert entry.proved and entry.removed_at is None
    (test,) = rows(ledger, "restore_test")
    assert test["seconds"]["restore"] == 20.0 and test["total_seconds"] == 25.5
    assert (test["rto_seconds"], test["age_seconds"], test["method"]) == (3600, 86_000, "local")
    ledger.write(*STORY[3])
    (entry,) = LedgerCatalogue(ledger).entries(TARGET, "dump")
    assert entry.removed_at == AT + timedelta(days=9) and entry.proved
    assert rows(ledger, "backup")[0]["removal"] == "older than 7 d"


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 2, 3, 0), (2, 0, 3, 1)])
def test_the_order_in_which_spools_arrive_changes_nothing(ledger: Ledger, order: tuple[int, ...]):
    """A test of a backup, from one worker's spool, may be there before the backup, from another's."""
    for number in order:
        assert ledger.write(*STORY[number])
    (entry,) = LedgerCatalogue(ledger).entries(TARGET, "dump")
    moments = (entry.verified_at, entry.tested_at, entry.removed_at)
    if order[-1] == 0:
        assert moments == (AT + timedelta(hours=1), AT + timedelta(hours=2), AT + timedelta(days=9))
        assert entry.proved
    else:
        assert None not in moments


def test_an_older_look_does_not_replace_a_newer_one(ledger: Ledger):
    """A verification that arrives late says less than the one that is on record."""
    ledger.write(*STORY[0])
    ledger.write(*told(5, AT + timedelta(days=2), "backup.verify", verification={"id": B1, "ok": False}))
    ledger.write(*told(6, AT + timedelta(days=3), "backup.restore_test", restore_test=tested(ok=False)))
    for events in STORY[1:3]:
        ledger.write(*events)
    (entry,) = LedgerCatalogue(ledger).entries(TARGET, "dump")
    assert entry.suspicious and entry.verified_ok is False and entry.tested_ok is False
    assert len(rows(ledger, "restore_test")) == 2


@pytest.mark.parametrize(
    "odd",
    [{"restore_test": tested(phases=["fetch"], differences=None)}, {"restore_test": tested(phases={"fetch": "long"})},
     {"restore_test": {"ok": True}}, {"removed": ["a", "b"]}, {"removed": {"backups": "all"}}, {"backup": {}},
     {"backup": 7}, {"verification": {"id": B1}}],
)  # fmt: skip
def test_evidence_of_a_strange_shape_loses_no_action(ledger: Ledger, odd: dict[str, Any]):
    """Other routines may use these words for something else: their action is closed all the same."""
    ledger.write(*STORY[0])
    assert ledger.write(*told(8, AT + timedelta(hours=5), "site.own", **odd))
    assert ledger.write(*told(9, AT + timedelta(hours=6), backup=made(B2)))
    assert [row["status"] for row in rows(ledger, "action")] == ["done"] * 3
    assert [e.removed_at for e in LedgerCatalogue(ledger).entries(TARGET, "dump")] == [None, None]


def test_kinds_of_one_target_are_told_apart(ledger: Ledger):
    """The same id in two series is two backups, and what is said of one is not said of the other."""
    ledger.write(*told(1, backup=made()))
    ledger.write(*told(2, backup=made(kind="physical", parent=B2)))
    ledger.write(*told(3, routine="backup.verify", verification={"id": B1, "ok": True}))
    catalogue = LedgerCatalogue(ledger)
    assert [e.verified_ok for e in catalogue.entries(TARGET, "dump")] == [True]
    assert [(e.verified_ok, e.parent) for e in catalogue.entries(TARGET, "physical")] == [(None, B2)]


def test_a_look_at_a_further_copy_proves_only_that_copy(ledger: Ledger):
    """Of the backup that lies in that place; one of the same id elsewhere (a mirrored bucket) is not proved by it."""
    ledger.write(*told(1, backup=made(kind="files", location="s3://a/x/b1")))
    ledger.write(*told(2, backup=made(B2, kind="files", location="s3://b/x/b2")))
    for number, backup_id in enumerate((B1, B2), 3):
        seen = {"id": backup_id, "kind": "files", "ok": True, "store": "s3://b/x/"}
        ledger.write(*told(number, routine="backup.verify", verification_of_copy=seen))
    verified = {e.id: e.verified_ok for e in LedgerCatalogue(ledger).entries(TARGET, "files")}
    assert verified == {B1: None, B2: True}


def test_learning_completes_and_never_overwrites(ledger: Ledger):
    """What only a store knew is added; what is on record stays, proof and all; doing it again changes nothing."""
    for events in STORY[:3]:
        ledger.write(*events)
    catalogue = LedgerCatalogue(ledger, ev.RunKey(dag_id="d", run_id="r9"))
    (known,) = catalogue.entries(TARGET, "dump")
    nothing = dict.fromkeys(("verified_at", "verified_ok", "tested_at", "tested_ok"))
    bare = known.model_copy(update={"tier": "daily", "key_id": "", "manifest_sha256": "b" * 64, **nothing})
    other = bare.model_copy(update={"id": B2, "finished": AT + timedelta(days=1)})
    assert catalogue.learn([bare, other, other]) == 1
    assert catalogue.learn([bare, other]) == 0
    assert catalogue.entries(TARGET, "dump") == (other, known)


def test_a_catalogue_is_rebuilt_after_its_ledger_was_lost(ledger: Ledger):
    """From nothing but manifests, in any number of goes."""
    found = [
        Entry(target=TARGET, kind=kind, id=backup_id, location="s3://x", finished=AT, size_bytes=2**40)
        for backup_id in (B1, B2)
        for kind in ("dump", "physical")
    ]
    catalogue = LedgerCatalogue(ledger)
    assert catalogue.learn(found[:1]) == 1 and catalogue.learn(found) == 3
    assert catalogue.entries(TARGET, "physical") == (found[3], found[1])
    assert catalogue.learn([]) == 0


def test_everything_waits_while_the_ledger_is_away(
    ledger: Ledger, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    """Reachable says so, nothing is known meanwhile, and the replay puts it all there exactly once."""
    monkeypatch.setattr(store, "RETRY_AFTER_SECONDS", 0)
    catalogue = LedgerCatalogue(ledger)
    assert catalogue.reachable
    server.kill()
    for events in STORY:
        assert not ledger.write(*events)
    learnt = Entry(target=TARGET, kind="dump", id=B2, location="s3://x", finished=AT + timedelta(days=1))
    assert catalogue.learn([learnt]) == 0
    assert not catalogue.reachable and catalogue.entries(TARGET, "dump") == ()
    waiting = ledger.spool._lines.read_bytes()
    server.start()
    assert catalogue.reachable
    assert ledger.replay() == 13
    ledger.spool.folder.joinpath("events.jsonl").write_bytes(waiting)
    ledger.replay()
    assert [e.id for e in catalogue.entries(TARGET, "dump")] == [B2, B1]
    assert len(rows(ledger, "event")) == 13 and len(rows(ledger, "restore_test")) == 1
    assert ledger.spool.rejected == 0


def test_an_older_ledger_keeps_what_it_knew(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Backups recorded before there were kinds are dumps, with what their records said."""
    older = tmp_path / "migrations"
    older.mkdir()
    for path in sorted(store.MIGRATIONS.glob("000[123]_*.sql")):
        (older / path.name).write_bytes(path.read_bytes())
    with psycopg.connect(database, autocommit=True, row_factory=dict_row) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(store, "MIGRATIONS", older)
            assert store.migrate(connection) == 3
        for backup_id, summary in ((B1, made(tier="monthly")), (B2, {"finished": "***"})):
            connection.execute(
                "insert into upkeep.backup (backup_id, target, system, location, manifest_sha256, size_bytes, summary,"
                " recorded_at, verified_ok) values (%s, %s, 'claims', 's3://x', '00', 5, %s, %s, true)",
                [backup_id, TARGET, psycopg.types.json.Jsonb(summary), AT],
            )
        assert store.migrate(connection) >= 1
    with_new = Ledger(lambda: database, Spool(tmp_path / "spool"))
    entries = {e.id: e for e in LedgerCatalogue(with_new).entries(TARGET, "dump")}
    with_new.close()
    assert (entries[B1].tier, entries[B1].content_sha256) == ("monthly", "c" * 64)
    assert entries[B1].finished == AT + timedelta(minutes=5) and entries[B2].finished == AT
    assert entries[B2].proved
