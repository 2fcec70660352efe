"""What the lab writes for logs, packages and models: the same every time, true, and wrong only where it is planted."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import log_writers, models, planters_logs, planters_models, scoring, windows
from lab.advisories import write_advisories
from lab.faults import planted_faults
from lab.live_logs import LiveLog
from lab.log_writers import SETS, write_logs
from lab.manifests import npm_versions, python_versions, write_manifests
from lab.model_rows import KINDS, dice, rows
from lab.models import RiskModel, trained_model
from lab.planted import Planted
from lab.postgres import PostgresServer
from lab.process import scratch_folder
from lab.run import compare
from lab.systems import system
from upkeep.core.cadence import Cadence

NOON = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)


def small_lab(home: Path, **more: Any) -> Any:
    """Return what writing needs of a lab: no server runs."""
    return SimpleNamespace(home=home, scale=0.05, web=SimpleNamespace(alive=False), **more)


def hashes(home: Path) -> dict[str, str]:
    """Return a hash of every log file."""
    files = sorted(path for path in home.rglob("logs/**/*") if path.is_file())
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines_of(home: Path, one: log_writers.LogSet) -> list[str]:
    """Return the lines of a log, oldest first, rotated and compressed files included."""
    live, found = home / one.file, list[str]()
    for suffix in (".3.gz", ".2.gz", ".1", ""):
        if (path := live.with_name(live.name + suffix)).exists():
            data = path.read_bytes()
            found += (gzip.decompress(data) if suffix.endswith("gz") else data).decode().splitlines()
    return found


@pytest.mark.parametrize("cadence", list(Cadence), ids=str)
def test_the_windows_are_those_of_the_cadences(cadence: Cadence):
    """The lab imports nothing of the package: that both have the same start times is compared here."""
    assert windows.CRONS[cadence.value] == cadence.cron


def test_a_window_has_ended_when_its_run_starts():
    """To the second, as Airflow has it: at one o'clock the day before is over, a second earlier it is not."""
    at_one = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)
    assert windows.newest("daily", at_one).end == at_one
    assert windows.newest("daily", at_one - timedelta(seconds=1)).end == at_one - timedelta(days=1)
    week = windows.newest("weekly", at_one)
    assert (week.start.weekday(), week.end - week.start) == (6, timedelta(days=7))


def test_two_labs_write_the_same_logs(tmp_path: Path):
    """The same moment gives the same bytes, compressed ones included; writing again writes nothing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert len(write_logs(small_lab(tmp_path / name), {}, NOON)) == len(SETS)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert write_logs(small_lab(tmp_path / "one"), {}, NOON + timedelta(hours=2)) == []


def test_planted_logs_become_healthy_again(tmp_path: Path):
    """Each fault changes its log only, and taking it away gives the healthy bytes back."""
    lab = small_lab(tmp_path)
    write_logs(lab, {}, NOON)
    healthy = hashes(tmp_path)
    places = {
        "campus/nginx-log/access.log": ("bad_gateway", "injections", "guessing_over_http"),
        "campus/app-log/app.log": ("database_away",), "claims/django-log/django.log": ("guessing",),
        "student/app-log/app.log": ("password",), "cardiology/app-log/app.log": ("torn",),
        "molecular/postgres-log/postgresql.log": ("slow_search",), "molecular/app-log/api.log": ("debugging",),
    }  # fmt: skip
    assert {name for names in places.values() for name in names} == planters_logs.CHANGES.keys()
    for planted in (True, False):
        for place, names in places.items():
            for name in names:
                Planted(tmp_path).set(place, name, planted)
        assert set(write_logs(lab, planters_logs.CHANGES, NOON)) == places.keys()
        assert (hashes(tmp_path) == healthy) is not planted


@pytest.mark.parametrize("hour", [0.2, 1.0, 1.1, 9.5, 18.6, 23.99])
def test_planted_lines_lie_in_the_newest_daily_window(tmp_path: Path, hour: float):
    """Whatever the hour of the start: nginx's times tell it."""
    now = NOON.replace(hour=0, minute=0) + timedelta(hours=hour)
    for name in ("bad_gateway", "injections", "guessing_over_http"):
        Planted(tmp_path).set("campus/nginx-log/access.log", name, planted=True)
    write_logs(small_lab(tmp_path), planters_logs.CHANGES, now)
    span = windows.newest("daily", now)
    planted, healthy_in_window = list[datetime](), 0
    for line in lines_of(tmp_path, log_writers.log_set("campus/nginx-log")):
        when = datetime.strptime(line.partition("[")[2].partition("]")[0], "%d/%b/%Y:%H:%M:%S %z")
        assert when <= now
        if re.search(r'" 502 |203\.0\.113\.201|203\.0\.113\.77 .*curl', line):
            planted.append(when)
        elif span.holds(when):
            healthy_in_window += 1
    assert len(planted) > 150 and all(map(span.holds, planted))
    assert healthy_in_window > 1500


@pytest.mark.parametrize("held", [True, False])
def test_a_renamed_log_goes_on_in_a_new_file(tmp_path: Path, held: bool):
    """A log that is held open follows its file until it is reopened; one that is not writes to the new one at once."""
    log = LiveLog(tmp_path / "app.log", held)
    log.write("one")
    (tmp_path / "app.log").rename(tmp_path / "old.log")
    log.write("two")
    log.reopen()
    log.write("three")
    assert (tmp_path / "old.log").read_text() == ("one\ntwo\n" if held else "one\n")
    assert (tmp_path / "app.log").read_text() == ("three\n" if held else "two\nthree\n")


@pytest.mark.parametrize("name", KINDS)
def test_services_answer_what_the_model_says(name: str):
    """The weights beside the pickle give its probabilities, to the last digits, and it is right as often as is said."""
    import pickle

    import numpy as np

    kind, folder = KINDS[name], trained_model(name)
    model = pickle.loads((folder / "risk_model.pkl").read_bytes())
    columns = rows(kind, dice("a test"), 500)
    table = np.column_stack([columns[feature].astype(object) for feature in kind.features])
    said, own = model.predict_proba(table)[:, 1], RiskModel(folder / "risk_model.json")
    asked = [{feature: columns[feature][i].item() for feature in kind.features} for i in range(500)]
    assert max(abs(own.probability(own.effects(one)) - said[i]) for i, one in enumerate(asked)) < 1e-9
    assert (model.predict(table) == columns["label"]).mean() > 0.95


def test_models_are_put_there_once_and_a_changed_file_is_put_right(tmp_path: Path):
    """Metadata state the hashes of the files; the planted fault breaks that, and taking it away mends it."""
    lab = small_lab(tmp_path)
    models.seed_models(tmp_path, NOON)
    metadata = json.loads((tmp_path / "student/results/models/model_metadata.json").read_text())

    def as_stated() -> bool:
        folder = tmp_path / "student/results/models"
        return metadata["hashes"] == {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in models.FILES}

    seen = [as_stated()]
    for planted in (True, True, False):
        planters_models.changed_model_file(lab, planted)
        seen.append(as_stated())
    assert seen == [True, False, False, True]
    models.seed_models(tmp_path, NOON + timedelta(days=10))
    assert json.loads((tmp_path / "student/results/models/model_metadata.json").read_text()) == metadata


def test_an_old_training_is_planted_and_forgotten(tmp_path: Path):
    """Only the date in student's metadata changes, and only once."""
    lab, file = small_lab(tmp_path), tmp_path / "student/results/models/model_metadata.json"
    models.seed_models(tmp_path, datetime.now(UTC))
    ages, texts = [], []
    for planted in (False, True, True, False):
        planters_models.old_training(lab, planted)
        texts.append(file.read_text())
        ages.append((datetime.now(UTC) - datetime.fromisoformat(json.loads(texts[-1])["training_date"])).days)
    assert [age > 120 for age in ages] == [False, True, True, False]
    assert texts[1] == texts[2] and texts[0] == texts[3]


def test_a_retraining_gives_a_model_that_passes(tmp_path: Path):
    """The commands of student's file train a newer version, state its hashes, and find it right often enough."""
    from lab.retrain import NEXT_VERSION, retrain, try_out

    models.seed_models(tmp_path, NOON)
    folder = tmp_path / "student/results/models"
    before = json.loads((folder / "model_metadata.json").read_text())
    retrain("student", folder)
    after = json.loads((folder / "model_metadata.json").read_text())
    assert after["version"] == NEXT_VERSION == RiskModel(folder / "risk_model.json").name.removeprefix("risk-")
    assert after["hashes"] == {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in models.FILES}
    assert all(after["metrics"][name] >= value for name, value in before["metrics"].items())
    with pytest.raises(SystemExit) as ended:
        try_out("student", folder)
    assert ended.value.code == 0


def test_manifests_hold_what_is_planted_and_nothing_else(tmp_path: Path):
    """A pin is replaced, and put back; the index of the lab knows every version that a manifest names."""
    lab = small_lab(tmp_path)
    write_manifests(tmp_path, {})
    files = [*tmp_path.glob("*/requirements.txt"), *tmp_path.glob("*/package*.json")]
    healthy = {file: file.read_text() for file in files}
    assert len(healthy) == 7
    planters_models.vulnerable_packages(lab, planted=True)
    planters_models.outdated_package(lab, planted=True)
    write_manifests(tmp_path, planters_models.pins(lab))
    changed = {str(file.relative_to(tmp_path)) for file in files if file.read_text() != healthy[file]}
    assert changed == {"claims/requirements.txt", "student/requirements.txt", "campus/package-lock.json",
                       "campus/package.json"}  # fmt: skip
    assert "Django==3.2.0\n" in (tmp_path / "claims/requirements.txt").read_text()
    planters_models.vulnerable_packages(lab, planted=False)
    planters_models.outdated_package(lab, planted=False)
    write_manifests(tmp_path, planters_models.pins(lab))
    assert {file: file.read_text() for file in files} == healthy
    named = {name for text in healthy.values() for name in re.findall(r"^([\w.-]+)[\[\w\]]*==", text, re.MULTILINE)}
    assert named == python_versions().keys()
    assert npm_versions()["minimist"] == {"1.2.5"}


def test_the_mirror_is_osv_and_fresh(tmp_path: Path):
    """Every advisory has what the schema demands, and was changed when the lab was started."""
    write_advisories(tmp_path, NOON)
    records = [json.loads(file.read_text()) for file in tmp_path.rglob("*.json")]
    assert len(records) >= 30
    for record in records:
        assert record["modified"] == "2026-03-04T12:30:00Z" and record["id"] and record["aliases"]
        [affected] = record["affected"]
        events = affected["ranges"][0]["events"]
        assert [list(event) for event in events] == [["introduced"], ["fixed"]] * (len(events) // 2)


def test_what_is_known_from_another_day_is_not_missed():
    """On a fresh ledger every fault must be found; a day later those that are only told while they are new need not."""
    faults = [(f.target, f.routine, f.check, f.severity, f.known_later) for f in planted_faults("weekly")]
    names = ("target", "routine", "check", "severity")
    found = [dict(zip(names, fault[:4], strict=True)) for fault in faults if not fault[4]]
    known = sorted(" ".join(fault[:4]) for fault in faults if fault[4])
    assert known and compare(found, "weekly") == (known, [])
    assert compare(found, "weekly", again=True) == ([], [])
    told = [{**found[0], "check": "another", "severity": severity} for severity in ("info", "warning")]
    assert compare([*found, *told], "weekly", again=True)[1] == [" ".join(told[1][name] for name in names)]


@pytest.fixture(scope="module")
def database() -> Iterator[Any]:
    """Give a lab that has one server with the databases of the two systems with models."""
    with scratch_folder() as folder, PostgresServer(18, folder / "postgres") as server:
        for name in KINDS:
            server.create_role(system(name).owner)
            server.create_database(system(name).database, system(name).owner)

        def connect(name: str, as_owner: bool = True) -> Any:
            return server.connect(system(name).database, system(name).owner)

        yield small_lab(folder, connect=connect)


def test_scoring_data_are_the_same_twice_and_wrong_only_where_planted(database: Any):
    """The week before the newest one is as it was; in the newest, features have drifted and labels are wrong."""
    now = datetime.now(UTC)
    span = windows.newest("weekly", now)
    scoring.write_scoring(database, {}, now)
    healthy, before = _facts(database, span), _fingerprint(database, span)
    assert scoring.write_scoring(database, {}, now) == []
    assert healthy["rows"] >= 2000 and healthy["accuracy"] > 0.96
    assert (healthy["missing"], healthy["new"]) == (0, 0)
    assert scoring.write_scoring(database, {"claims": planters_models.CHANGES}, now) == ["claims"]
    planted = _facts(database, span)
    assert planted["accuracy"] < 0.945 and planted["missing"] > 0.15 and planted["new"] > 0.02
    assert planted["late"] > healthy["late"] + 5
    assert _fingerprint(database, span) == before
    scoring.write_scoring(database, {}, now)
    assert _facts(database, span) == healthy


def _facts(lab: Any, span: windows.Span) -> dict[str, float]:
    with lab.connect("claims") as connection:
        row = connection.execute(
            "SELECT count(*), avg((prediction = label)::int), avg((amount_ratio IS NULL)::int),"
            " avg((policy_kind = 'marine')::int), avg(days_to_report)"
            " FROM claims_scoring WHERE scored_at >= %s AND scored_at < %s",
            [span.start, span.end],
        ).fetchone()
    return dict(zip(("rows", "accuracy", "missing", "new", "late"), map(float, row), strict=True))


def _fingerprint(lab: Any, span: windows.Span) -> Any:
    with lab.connect("claims") as connection:
        return connection.execute(
            "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM claims_scoring t"
            " WHERE scored_at < %s OR scored_at >= %s",
            [span.start, span.end],
        ).fetchone()
