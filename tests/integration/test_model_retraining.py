"""Retraining with real programs: what is due, what is asked, and that the old model survives whatever fails."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.model_health_bench import Care, make, write
from upkeep.adapters.model_versions import ModelVersions
from upkeep.adapters.retrain import Retrainer
from upkeep.core.model import Measurement, Severity
from upkeep.core.model_health import Trial

DO = (("retrain", "student/risk-model"),)


@pytest.fixture
def care(tmp_path: Path) -> Care:
    care = make(tmp_path)
    care.target["retraining"] = {"max_age_days": 10, "min_scores": {"accuracy": 0.9}, "timeout": 20}
    return care


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def program(care: Care, body: str, test: str = "pass", **more: Any) -> None:
    """Let retraining run a Python program in the model's folder, then another as its test."""
    path = care.folder.parent / "train.py"
    path.write_text("import json, os, sys, time, hashlib\nfrom pathlib import Path\n" + body)
    check = care.folder.parent / "check.py"
    check.write_text(test)
    wanted = {"command": [sys.executable, str(path), "{folder}"], "test": [sys.executable, str(check)], **more}
    care.target["retraining"] = care.target["retraining"] | wanted


GOOD = """
folder = Path(sys.argv[1])
said = json.loads((folder / "model_metadata.json").read_text())
data = b"a better model"
(folder / "model.pkl").write_bytes(data)
said |= {"version": "2", "sha256": hashlib.sha256(data).hexdigest(), "training_date": "2026-11-21",
         "metrics": {"accuracy": 0.98, "f1": 0.96}}
(folder / "model_metadata.json").write_text(json.dumps(said))
print("epoch 1 done")
"""


def test_when_it_is_due(care: Care):
    """Age and metrics are compared with what the system file says; each reason is named with its numbers."""
    result = care.run("retraining")
    found = result.found("due")
    assert found.severity is Severity.WARNING and "trained 20 days ago" in found.message
    assert (found.observed, result.measurements["retraining.due", ""]) == ("age", 1)
    care.target["retraining"] |= {"max_age_days": 30}
    assert care.run("retraining").findings == ()
    care.target["retraining"] |= {"min_scores": {"accuracy": 0.99, "recall": 0.5}}
    result = care.run("retraining")
    assert result.found("due").observed == "accuracy"
    unknown = result.found("evidence")
    assert (unknown.subject, unknown.severity) == ("recall", Severity.UNKNOWN)
    (care.folder / "model_metadata.json").unlink()
    assert "model_metadata.json: it is missing" in care.run("retraining").found("due").message
    del care.target["retraining"]
    write(care.folder)
    assert care.run("retraining").found("due").severity is Severity.INFO


def test_what_the_ledger_knows_speaks_too(care: Care):
    """The newest scores of model.scores count against the limits, and drift is shown beside; old ones do not count."""
    care.target |= {
        "retraining": {"max_age_days": 30},
        "thresholds": {"f1_percent": {"warning": 90, "direction": "below"}},
    }
    scores, drift = care.history("scores"), care.history("drift")
    drift.keep((Measurement(name="drift.columns", value=12.5, unit="%"),), at=care.now - timedelta(days=2))
    scores.keep((Measurement(name="score.f1_percent", value=81.0, unit="%"),), at=care.now - timedelta(days=50))
    result = care.run("retraining")
    assert result.findings == ()
    assert result.measurements["evidence", "drifted_columns_percent"] == 12.5
    scores.keep((Measurement(name="score.f1_percent", value=82.0, unit="%"),), at=care.now - timedelta(days=3))
    program(care, GOOD)
    result = care.run("retraining")
    assert (
        "f1_percent of the newest judged window is 82 (model.scores, 2026-11-18), limit 90"
        in result.found("due").message
    )
    assert result.actions[0].action.details["evidence"] == {"f1_percent": 82.0, "drifted_columns_percent": 12.5}


def test_nothing_is_trained_without_a_yes(care: Care):
    """The command is proposed, with the evidence and without secrets in its arguments; always, if so set."""
    program(care, GOOD, command=[sys.executable, "x.py", "--key=AKIAABCDEFGHIJKLMNOP"])
    before = content(care.folder)
    result = care.run("retraining")
    assert result.did == {"retrain": "proposed"} and content(care.folder) == before
    details = result.actions[0].action.details
    assert details["command"][1:] == ["x.py", "***"] and details["evidence"] == {"accuracy": 0.97}
    care.target["retraining"] |= {"max_age_days": 30}
    assert care.run("retraining").did == {}
    assert care.run("retraining", ask="always").did == {"retrain": "proposed"}
    assert care.run("retraining", ask="never").did == {}


def test_a_yes_counts_for_what_was_asked(care: Care):
    """When model or command are others than those that somebody agreed to, nothing is trained; it is asked anew."""
    program(care, GOOD)
    asked = {DO[0]: care.run("retraining").actions[0].action.details["oid"]}
    write(care.folder, seed=3)
    before = content(care.folder)
    assert "done" not in care.run("retraining", approved=DO, objects=asked).did.values()
    write(care.folder)
    program(care, GOOD, test="pass  # another")
    care.target["retraining"]["command"] = [*care.target["retraining"]["command"], "--all"]
    assert "done" not in care.run("retraining", approved=DO, objects=asked).did.values()
    care.target["retraining"]["command"] = care.target["retraining"]["command"][:-1]
    write(care.folder, seed=3)
    assert content(care.folder) == before, "nothing was trained"
    write(care.folder)
    assert care.run("retraining", approved=DO, objects=asked).did == {"retrain": "done"}


def test_a_new_model_that_passes_stays(care: Care, monkeypatch: pytest.MonkeyPatch):
    """Old and new files are copied, the new are in service and trusted; programs see little of the environment."""
    monkeypatch.setenv("UPKEEP_SECRET", "hunter2")
    seen = care.folder.parent / "env.json"
    program(care, GOOD + f"Path({str(seen)!r}).write_text(json.dumps(dict(os.environ)))\n")
    result = care.run("retraining", approved=DO)
    assert (result.did, result.state) == ({"retrain": "done"}, "success")
    told = result.evidence("retrain")["retraining"]
    assert told["metrics"]["new"]["accuracy"] == 0.98 and told["command"]["tail"] == ["epoch 1 done"]
    assert result.measurements["metadata.metric", "accuracy"] == 0.98
    new, old = ModelVersions().kept(str(care.folder))
    assert (new.version, new.origin, new.approved, old.version) == ("2", "retraining", "an approved retraining", "1")
    assert (care.folder / "model.pkl").read_bytes() == b"a better model"
    assert "UPKEEP_SECRET" not in json.loads(seen.read_text())
    assert care.run("versions").did == {} and care.run("retraining").did == {}


WORSE = GOOD.replace("0.98", "0.91")


@pytest.mark.parametrize(
    ("body", "test", "more", "said"),
    [
        (
            "(Path(sys.argv[1]) / 'model.pkl').write_bytes(b'half'); sys.exit('no data')",
            "",
            {},
            "ended with code 1: no",
        ),
        (GOOD, "raise SystemExit(3)", {}, "the test ended with code 3"),
        (WORSE, "", {}, "accuracy 0.97 -> 0.91"),
        ("pass", "", {}, "changed no model file"),
        ("(Path(sys.argv[1]) / 'model.pkl').unlink()", "", {}, r"missing or cannot be read: \*.pkl"),
        (GOOD + "(folder / 'model_metadata.json').write_text('{')", "", {}, "cannot be read: model_metadata.json"),
        (GOOD + "(folder / 'model.pkl').write_bytes(b'other')", "", {}, "state another hash"),
        (GOOD + "(folder / 'more.json').write_text('{}'); 1/0", "", {}, "ZeroDivisionError.*also left more.json"),
        (GOOD + "time.sleep(60)", "", {"timeout": 1}, "not done within 1 s"),
        ("", "", {"command": ["/no/such/program"]}, "code 127"),
        (GOOD, "import pathlib; pathlib.Path('model.pkl').write_bytes(b'z')", {}, "test changed the model's files"),
    ],
)
def test_the_old_model_comes_back(care: Care, body: str, test: str, more: dict[str, Any], said: str):
    """Whatever fails, the files that were in service are in service again, byte for byte, and the reason is told."""
    before = content(care.folder)
    program(care, body, test, **more)
    result = care.run("retraining", approved=DO)
    assert (result.did, result.state) == ({"retrain": "failed"}, "failed")
    found = result.found("retrain")
    assert found.severity is Severity.CRITICAL
    import re

    assert re.search(said, found.message, re.DOTALL), found.message
    after = content(care.folder)
    assert {name: after[name] for name in before} == before
    assert Retrainer().note(str(care.folder)) is None


def test_worse_may_be_kept_on_request(care: Care):
    """A tolerance, or the setting to keep worse models, lets them stay."""
    program(care, WORSE)
    assert care.run("retraining", approved=DO, worse_by=0.07).did == {"retrain": "done"}
    write(care.folder)
    assert care.run("retraining", approved=DO, keep_worse=True).did == {"retrain": "done"}


def test_secrets_in_output_are_left_out(care: Care):
    """What the programs write is kept, without lines that look like secrets, and printable."""
    said = (
        "PGPASSWORD=hunter2", "Authorization: Bearer hunter2", "token: hunter2", "--password hunter2",
        '{"db_password": "hunter2"}', "aws_secret_access_key = hunter2", "epoch 1, tokens: 512",
    )  # fmt: skip
    program(care, f"print({chr(10).join(said)!r}); print('\\x1b[31mred\\x00'); sys.exit('postgresql://a:b@c/d')")
    care.target["retraining"]["command"] += ["--db-password", "hunter2", "-c", "PGPASSWORD=hunter2 run"]
    result = care.run("retraining", approved=DO)
    assert "hunter2" not in repr(result)
    told = result.evidence("retrain")["retraining"]["command"]["tail"]
    assert "epoch 1, tokens: 512" in told
    assert any("red" in line and "\x1b" not in line for line in told)
    assert not any("hunter2" in line or "a:b@" in line for line in told)


def test_an_interrupted_worker_puts_the_old_files_back(care: Care):
    """When the run is ended from outside, the programs end, and the old files are back before the error goes on."""
    before = content(care.folder)
    mark = care.folder.parent / "alive"
    program(care, GOOD + f"while True: Path({str(mark)!r}).touch(); time.sleep(0.02)")

    class Ended(BaseException): ...

    def still_alone() -> None:
        if mark.exists():
            raise Ended

    import dataclasses

    from upkeep.core.routine import Routine

    routine = Routine.load("upkeep.routines.model.retraining")
    job = dataclasses.replace(care.job(routine, {}), still_alone=still_alone)
    seen = routine.observe(job)
    with pytest.raises(Ended):
        routine.act(job, routine.plan(job, seen).actions[0])
    assert content(care.folder) == before and Retrainer().note(str(care.folder)) is None
    mark.unlink()
    import time

    time.sleep(0.2)
    assert not mark.exists(), "the program lives on"


@pytest.mark.parametrize("routine", ["retraining", "versions"])
def test_a_killed_retraining_is_undone_by_the_next_run(care: Care, routine: str):
    """The note of a dead worker makes either routine put the old files back, after what lay there was copied."""
    care.run("versions")
    before = content(care.folder)
    backup = ModelVersions().kept(str(care.folder))[0].name
    (care.folder / "model.pkl").write_bytes(b"half trained")
    retrainer = Retrainer()
    retrainer.write(str(care.folder), Trial(backup=backup, begun=care.now, run_id="dead"))
    with retrainer.held(str(care.folder)) as mine:
        assert mine and care.run(routine).did == {}, "a living worker is left alone"
    assert content(care.folder) != before
    result = care.run(routine)
    assert result.did == {"restore": "done"} and result.found("half").severity is Severity.WARNING
    assert content(care.folder) == before
    copies = [
        (care.folder / "versions" / v.name / "model.pkl").read_bytes() for v in ModelVersions().kept(str(care.folder))
    ]
    assert b"half trained" in copies
    assert "restore" not in care.run(routine).did


def test_a_note_that_cannot_be_read_is_unknown(care: Care):
    """Nothing is guessed from a note that is damaged."""
    care.run("versions")
    (care.folder / "versions" / ".retraining.json").write_text("{")
    before = content(care.folder)
    for routine, check in (("retraining", "half"), ("versions", "retraining")):
        assert care.run(routine).found(check).severity is Severity.UNKNOWN
    assert content(care.folder) == before
