"""The report's proof of backups: per backup, from the catalogue, and the evidence of tests and removals."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest

from tests.unit import report_samples as samples
from upkeep.core.model import Severity
from upkeep.ledger.record import ActionRecord
from upkeep.report import restored, shelf
from upkeep.report.evidence import Proof, deed
from upkeep.report.extras import Extras
from upkeep.report.restored import Test
from upkeep.report.shelf import Shelf


@pytest.fixture(scope="module")
def page() -> str:
    return samples.proved().html


def shelves(backups: Any, fold: int = 100) -> tuple[Shelf, ...]:
    return shelf.shelves(backups, samples.START, Extras(now=samples.START).zone("x"), fold)


def proofs_of(evidence: dict[str, Any]) -> tuple[Proof, ...]:
    action = samples.Action(name="x", subject="x", reason="x")
    record = ActionRecord(action=action, opened_at=samples.START, status="done", evidence=evidence)
    return deed(record, Extras(now=samples.START).zone("x")).proofs


def test_every_backup_of_the_runs_targets_stands_with_its_proof(page: str):
    """Its id, tier, age, size and key; when it was read back and restored, against RTO and RPO, phase by phase."""
    for backup in samples.proofs("claims"):
        assert backup.id in page
    wanted = (
        *("encrypted by key 2026-q4", "not encrypted", "weekly", "incremental to 20261115T060000Z-7f3a0006"),
        *("652 MB", "restored, identical", "restore failed", "3 min 38 s of 4 h (RTO)", "1 h of 1 d 2 h (RPO)"),
        *("restore 3 min 34 s", "4 h 41 min, over the 4 h of the RTO", "public.claim: expected 41 rows, hash 7"),
    )
    assert [said for said in wanted if said not in page] == []


def test_series_are_told_apart_and_counted():
    """Dumps and physical backups stand in tables of their own, few rows open, the rest folded, others counted."""
    dumps, physical = shelves(samples.proofs("claims"), fold=4)
    assert (dumps.kind, physical.kind) == ("dump", "physical")
    assert (len(dumps.rows), len(dumps.more), dumps.left) == (5, 4, 4)
    assert dumps.said.startswith("13 backups on record; 11 read back and whole, 2 restored and well, 1 not")
    assert physical.rows[0].about == "daily, incremental to 20261115T060000Z-7f3a0006, not encrypted"


def test_what_nobody_looked_at_is_not_called_good():
    """Neither read back nor restored: it says so; a look without an answer is unknown."""
    bare = samples.proven("a/b", 1, verified_at=None, verified_ok=None)
    odd = samples.proven("a/b", 2, verified_ok=None, tested_at=samples.START, tested_ok=None)
    (one,) = shelves([bare, odd])
    assert one.rows[0].verified is None and one.rows[0].tested is None
    assert one.rows[1].verified is not None and one.rows[1].verified.severity is Severity.UNKNOWN
    assert one.rows[1].tested is not None and one.rows[1].tested.severity is Severity.UNKNOWN


def test_a_removed_backup_keeps_its_proof():
    """When it went and why stands beside it, and it is not counted among those that are there."""
    gone = samples.proven("a/b", 9, removed_at=samples.START, removal="no tier keeps it", **samples.proof_of())
    (one,) = shelves([samples.proven("a/b", 1), gone])
    assert one.rows[1].gone == "removed 2026-11-21 06:00 UTC: no tier keeps it"
    assert one.rows[1].tested is not None and "1 removed" in one.said and "0 restored" in one.said


def test_promises_that_were_not_kept_are_marked():
    """Longer than the RTO, older than the RPO; without a promise there is nothing to keep, and that is said."""
    said = {s.label: s for s in restored.lines(Test(ok=True, total_seconds=10, rto_seconds=5, age_seconds=3))}
    assert said["took"].severity is Severity.WARNING and "over the 5 s" in said["took"].shown.text
    assert said["age then"].severity is Severity.OK and "no RPO is stated" in said["age then"].shown.text


@pytest.mark.parametrize(("ok", "severity"), [(True, Severity.OK), (False, Severity.CRITICAL), (None, Severity.UNKNOWN),
                                              ("yes", Severity.UNKNOWN)])  # fmt: skip
def test_only_a_plain_yes_is_a_passed_test(ok: Any, severity: Severity):
    """Whatever else stands there proves nothing."""
    (proof,) = proofs_of({"restore_test": samples.tested(ok=ok)})
    assert proof.severity is severity


@pytest.mark.parametrize("odd", ["text", 7, [1, {"name": None}], {"a": {"b": [1]}}, None, True, float("nan")])
@pytest.mark.parametrize(
    "field", ["phases", "differences", "smoke", "rto_seconds", "age_seconds", "server_version", "id"]
)
def test_evidence_of_a_strange_shape_breaks_no_report(field: str, odd: Any):
    """Routines of a site may write anything."""
    (proof,) = proofs_of({"restore_test": samples.tested() | {field: odd}})
    assert proof.heading.startswith("Restore test of")


def test_identical_is_said_only_of_what_was_compared():
    """A restore whose rows nobody compared with the source's went well, and that is all."""
    (proof,) = proofs_of({"restore_test": samples.tested(checked=["checksums"], differences=[])})
    assert proof.heading.endswith("restored, well") and "differs" not in {f.label for f in proof.facts}
    (proof,) = proofs_of({"restore_test": samples.tested()})
    assert proof.heading.endswith("restored, identical")


def test_failed_questions_are_critical_and_named():
    """The application's own questions: those that were answered and those that were not, with what was seen."""
    said = {
        s.label: s for s in restored.lines(Test(ok=False, smoke={"a": True, "b": {"ok": False, "seen": 3}, "c": "x"}))
    }
    assert said["questions answered"].shown.text == "a"
    assert said["questions failed"].severity is Severity.CRITICAL
    assert said["questions failed"].shown.text == "b: seen 3; c: x"


def test_what_was_removed_is_named_with_the_reason(page: str):
    """Each backup, and why; many are counted. A list of another routine is not taken for it."""
    assert "20261013T060012Z-00000003" in page and "dump: no tier keeps it any more" in page
    many = [{"id": f"b{n}", "reason": "old"} for n in range(50)]
    (proof,) = proofs_of({"removed": {"backups": many}})
    assert proof.heading == "Removed 50 backups" and proof.facts[-1].shown.text == "30 more, see the ledger"
    assert proofs_of({"removed": ["a", "b"]}) == proofs_of({"removed": {"backups": []}}) == ()


def test_a_target_that_was_not_worked_on_shows_no_backups():
    """The proof belongs to the run's own targets and to the part about backups."""
    said = [samples.opened(), samples.expected(("database.health", "claims/db")), *samples.health("claims")]
    report = samples.report_of(said, samples.troubled_extras(proofs={"claims/db": samples.proofs("claims")}))
    assert "Backups and their proof" not in report.html


def test_hostile_names_stay_text():
    """Ids, keys and reasons come from manifests in a store: nothing of them becomes markup."""
    nasty = dict.fromkeys(("id", "tier", "key_id", "parent", "removal"), samples.HOSTILE[1])
    backup = samples.proven("claims/db", 1, removed_at=samples.START, **nasty)
    said = [samples.opened(), samples.expected(("backup.verify", "claims/db")), *samples.verification("claims")]
    html = samples.report_of(said, samples.troubled_extras(proofs={"claims/db": (backup,)})).html
    assert "&gt;&lt;img src=x" in html or "&lt;img src=x" in html
    assert re.search(r"<img", html) is None


def test_examples():
    """The examples in the docstrings are true."""
    assert doctest.testmod(restored).failed == 0


def test_a_recovery_is_told_step_by_step():
    """When each step began and how long it took, what answered, what would have been lost, how to go back."""
    step = {"name": "db: bring back", "began": "2026-11-21T16:20:25Z", "seconds": 4.3, "detail": "7 tables identical"}
    seen = {
        "steps": [step], "parts": [{"name": "db", "trouble": ""}], "seconds": 4.9, "rto_seconds": 14_400,
        "answers": [{"endpoint": "health", "well": True, "said": "200", "seconds": 0.01}],
        "would_have_been_lost": ["db: the last 39 s"], "undo": ["ALTER DATABASE a RENAME TO b"], "kept": "shop__before",
    }  # fmt: skip
    [proof] = proofs_of({"recovery": seen})
    told = {fact.label: fact.shown.text for fact in proof.facts}
    assert (proof.severity, proof.heading, told["in all"]) == (Severity.OK, "Brought back", "4.9 s (RTO 4 h)")
    assert next(value for key, value in told.items() if ":20:25" in key) == "db: bring back, 4.3 s: 7 tables identical"
    assert told["asked health"].startswith("well") and told["would be lost"] == "db: the last 39 s"
    assert told["undo"] == "ALTER DATABASE a RENAME TO b" and told["kept"] == "shop__before"
    [proof] = proofs_of({"recovery": {**seen, "parts": [{"name": "db", "trouble": "no backup"}]}})
    assert proof.severity is Severity.CRITICAL
    [proof] = proofs_of({"recovery": {"seconds": 1}})
    assert proof.severity is Severity.UNKNOWN
