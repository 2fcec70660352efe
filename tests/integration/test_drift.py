"""Drift of files that are as real ones are: what is found, what is not, and what never loses the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.integration.drift_world import DAY, FEATURES, SEPTEMBER, WEEK, World, healthy, troubles
from upkeep.core.cadence import Window
from upkeep.core.model import Severity

OCTOBER = SEPTEMBER + 30 * DAY


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A model with a profile of September."""
    made = World(tmp_path)
    made.reference()
    return made


def week(world: World, rows: int = 3000, seed: int = 1, **changed: Any) -> dict[str, Any]:
    """Write healthy data of the week, except for what is changed in them."""
    columns = healthy(rows, seed) | changed
    world.write("week.parquet", columns, WEEK.start, WEEK.end)
    return columns


@pytest.mark.parametrize("rows", [200, 1000, 20_000])
def test_healthy_data_give_no_finding(world: World, rows: int):
    """Same distribution, other rows: nothing is said, and every column is measured."""
    week(world, rows)
    said = world.drift()
    assert not said.findings
    assert {m.subject for m in said.measurements if m.name == "drift.psi"} == {*FEATURES, "score"}


def test_each_change_is_named(world: World):
    """Column, aspect, method, value, limit, p and direction; what did not change is not named."""
    rng = np.random.default_rng(5)
    rows = 3000
    week(
        world,
        rows,
        amount=rng.lognormal(5.8, 1.2, rows),
        age=pa.array(rng.normal(45, 12, rows), mask=rng.random(rows) < 0.3),
        channel=rng.choice(["web", "phone", "agent", "chat"], rows, p=[0.5, 0.3, 0.15, 0.05]),
        days=np.full(rows, 4),
        score=np.clip(rng.beta(4, 4, rows), 0, 1),
    )
    found = troubles(world.drift())
    assert set(found) == {
        "amount distribution", "amount outliers", "age missing", "channel distribution", "channel new_categories",
        "channel vanished_categories", "days constant", "days distribution", "score distribution",
    }  # fmt: skip
    amount = found["amount distribution"]
    assert amount.check == "feature_drift" and amount.severity is Severity.CRITICAL
    for part in ("amount", "went up", "PSI", "KS", "(limit 0.1)", "p = ", "3,000 values"):
        assert part in amount.message, part
    assert amount.observed.startswith("PSI") and amount.limit == "0.2" and "model.health" in amount.hint
    assert found["score distribution"].check == "prediction_drift"
    assert "'chat'" in found["channel new_categories"].message
    assert "'post'" in found["channel vanished_categories"].message
    assert "-> 30" in found["age missing"].message or "-> 29" in found["age missing"].message


def test_infinities_and_outliers(world: World):
    """Ten percent of infinities and two of absurd values are said of a column whose rest has not changed."""
    columns = healthy(3000, 1)
    age = np.array(columns["age"].to_pylist(), dtype=float)
    age[:300] = np.inf
    amount = columns["amount"].copy()
    amount[:60] = 1e9
    week(world, age=age, amount=amount)
    found = troubles(world.drift())
    assert {"age infinite", "amount outliers"} <= set(found)
    assert "10 %" in found["age infinite"].observed
    assert "amount distribution" not in found


def test_one_outlier_hides_nothing(tmp_path: Path):
    """One value of a million in the reference makes its standard deviation 400 times larger; a shift still shows."""
    world = World(tmp_path, features=("x",), prediction=None)
    rng = np.random.default_rng(3)
    reference = np.append(rng.normal(0, 1, 2999), 1e6)
    world.write("reference.parquet", {"x": reference}, *_september())
    world.profile()
    world.write("week.parquet", {"x": rng.normal(1, 1, 3000)}, WEEK.start, WEEK.end)
    found = troubles(world.drift())["x distribution"]
    assert "PSI 0.8" in found.message and "Wasserstein 0.9" in found.message and "KS 0.3" in found.message


def _september() -> tuple[datetime, datetime]:
    return datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)


BAD: dict[str, Any] = {
    "all NULL": pa.nulls(3000, pa.float64()),
    "null type": pa.nulls(3000),
    "text": ["a word"] * 3000,
    "numbers as text": [f" {n} " for n in range(3000)],
    "ids": [f"id-{n}" for n in range(3000)],
    "10,000 categories": [f"c{n % 10_000}" for n in range(3000)],
    "NaN": np.full(3000, np.nan),
    "infinity": np.full(3000, np.inf),
    "decimal": [Decimal(n) / 7 for n in range(3000)],
    "date": [datetime(2026, 1, 1).date()] * 3000,
    "bool": [n % 2 == 0 for n in range(3000)],
    "binary": [b"\x00\xff"] * 3000,
    "list": [[1, 2]] * 3000,
    "struct": [{"a": 1}] * 3000,
    "huge": [1e308, -1e308] * 1500,
    "constant": np.zeros(3000),
    "dictionary": pa.array(["a", "b"] * 1500).dictionary_encode(),
    "duration": pa.array([1] * 3000, pa.duration("s")),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("column", ["amount", "channel"])
def test_a_bad_column_loses_nothing_else(world: World, column: str, bad: Any):
    """Whatever a column holds, it is said of that column, and the drift of another one is still seen."""
    rng = np.random.default_rng(5)
    week(world, **{column: bad}, age=rng.normal(60, 12, 3000))
    found = troubles(world.drift())
    assert "age distribution" in found
    assert any(subject.startswith(f"{column} ") for subject in found), found
    assert all(subject.startswith((f"{column} ", "age ")) for subject in found), found


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_profile_of_anything_can_be_made_and_compared(tmp_path: Path, bad: Any):
    """The same data as their own reference: nothing has drifted, whatever they hold."""
    world = World(tmp_path, features=("x", "y"), prediction=None)
    columns = {"x": bad, "y": np.random.default_rng(1).normal(size=3000)}
    world.write("reference.parquet", columns, *_september())
    world.profile()
    world.write("week.parquet", columns, WEEK.start, WEEK.end)
    assert not troubles(world.drift())


def test_types_that_change_between_files(world: World):
    """Numbers in one file, their text in the next: compared, counted, and said once, as a changed type."""
    columns = healthy(1500, 1)
    world.write("week1.parquet", columns, WEEK.start, WEEK.start + 3 * DAY)
    text = healthy(1500, 2)
    text |= {"amount": [str(x) for x in text["amount"]], "days": [str(x) for x in text["days"]]}
    world.write("week2.parquet", text, WEEK.start + 3 * DAY, WEEK.end)
    found = troubles(world.drift())
    assert set(found) == {"amount type", "days type"}
    assert "double and string" in found["amount type"].message and found["amount type"].observed == "50 %"


def test_a_column_that_is_gone_and_one_that_the_profile_lacks(world: World):
    """Unknown, never silently fine."""
    columns = healthy(3000, 1)
    del columns["channel"]
    world.features = (*FEATURES, "income")
    world.write("week.parquet", columns | {"income": np.ones(3000)}, WEEK.start, WEEK.end)
    found = troubles(world.drift())
    assert set(found) == {"channel absent", "income absent"}
    assert all(f.severity is Severity.UNKNOWN for f in found.values())


def test_a_column_that_half_the_files_lack_is_missing_there(world: World):
    """What a file does not have, the model did not see."""
    columns = healthy(1500, 1)
    world.write("week1.parquet", columns, WEEK.start, WEEK.start + 3 * DAY)
    del columns["channel"]
    world.write("week2.parquet", columns, WEEK.start + 3 * DAY, WEEK.end)
    found = troubles(world.drift())
    assert set(found) == {"channel missing"} and found["channel missing"].observed == "50 %"


@pytest.mark.parametrize("rows", [0, 199])
def test_too_few_rows_are_unknown(world: World, rows: int):
    """Of few rows nothing is said, not even that they are fine."""
    week(world, rows, seed=7)
    found = troubles(world.drift())
    assert set(found) == {"window"} and found["window"].severity is Severity.UNKNOWN
    assert found["window"].observed == str(rows) and found["window"].limit == "200"


def test_no_profile_is_unknown_and_no_data_are_nothing(tmp_path: Path):
    """Without a profile the hint makes one; a model without scoring data is passed over with a word."""
    world = World(tmp_path)
    said = world.drift()
    assert [f.severity for f in said.findings] == [Severity.INFO]
    week(world)
    found = troubles(world.drift())[""]
    assert found.severity is Severity.UNKNOWN and "profile_command" in found.hint and "approved_changes" in found.hint


@pytest.mark.parametrize("damage", ["byte", "gone", "index", "both"])
def test_an_altered_profile_is_critical_and_not_used(world: World, damage: str):
    """One changed byte, a missing file, a broken index; file and index changed together show by what was remembered."""
    week(world)
    world.history.keep(world.drift().measurements, WEEK.end)
    entry = world.drifts.index(str(world.folder)).versions[0]
    path, index = world.folder / entry.file, world.folder / "profiles.json"
    if damage == "byte":
        path.write_bytes(path.read_bytes().replace(b"web", b"wob"))
    elif damage == "gone":
        path.unlink()
    elif damage == "index":
        index.write_text(index.read_text()[:-30])
    else:
        import hashlib

        path.write_bytes(path.read_bytes().replace(b"web", b"wob"))
        index.write_text(index.read_text().replace(entry.sha256, hashlib.sha256(path.read_bytes()).hexdigest()))
    found = troubles(world.drift())
    subject = "replaced" if damage == "both" else "altered"
    assert found[subject].severity is Severity.CRITICAL
    assert set(found) == {subject} or damage == "both"


def test_a_backfill_says_what_runs_on_time_said(world: World):
    """Ten days, each run when it was over; then all of them again, after a newer profile was made: equal answers."""
    start = datetime(2026, 10, 4, tzinfo=UTC)
    days = [Window(start=start + n * DAY, end=start + (n + 1) * DAY) for n in range(10)]
    on_time = []
    for number, day in enumerate(days):
        columns = healthy(1000, seed=number)
        columns["age"] = np.random.default_rng(number).normal(45 + 2 * number, 12, 1000)
        world.write(f"day{number}.parquet", columns, day.start, day.end)
        said = world.drift(day)
        on_time.append(said)
        if number == 6:
            world.write("more.parquet", healthy(500, seed=77), *_september())
            world.profile(made_at=day.end)
    assert len(world.drifts.index(str(world.folder)).versions) == 2
    again = [world.drift(day.model_copy(update={"newest": False})) for day in days]
    assert [j.measurements for j in again] == [j.measurements for j in on_time]
    assert [j.findings for j in again] == [j.findings for j in on_time]
    assert not troubles(on_time[0]) and "age distribution" in troubles(on_time[9])


def test_a_window_before_the_first_profile(world: World):
    """The newest window may look at a profile that was just made; an older one says what was known then."""
    late = world.folder / "profiles.json"
    said = json.loads(late.read_text())
    said["versions"][0]["made_at"] = "2026-10-12T00:00:00Z"
    late.write_text(json.dumps(said))
    week(world)
    assert not world.drift().findings
    old = troubles(world.drift(WEEK.model_copy(update={"newest": False})))[""]
    assert "2026-10-12" in old.message and old.severity is Severity.UNKNOWN


def test_features_of_the_metadata_and_ignored_columns(world: World):
    """Features are taken from the metadata file where the system file names none; ignored columns are not judged."""
    (world.root / "model" / "meta.json").write_text(json.dumps({"features": ["amount", "age"]}))
    world.features, world.metadata = (), "meta.json"
    week(world, channel=["new"] * 3000, age=np.full(3000, 1.0))
    said = world.drift()
    assert {s.split()[0] for s in troubles(said)} == {"age"}
    assert not troubles(world.drift(ignore=["age"]))
    world.metadata = None
    assert {s.split()[0] for s in troubles(world.drift())} == {"age", "channel"}


def test_broken_lines_and_files(world: World):
    """Broken CSV lines and rows without a time are counted; a file that is none is unknown; the rest is judged."""
    columns = healthy(3000, 1)
    del columns["age"]
    names = list(columns)
    moment = WEEK.start.isoformat()
    lines = [",".join([moment, "45", *(str(columns[n][i]) for n in names)]) for i in range(3000)]
    lines[10:10] = ["1,2", "a,b,c,d,e,f,g,h,i,j"] * 20
    lines[500:500] = [f"soon,45,{','.join(str(columns[n][0]) for n in names)}"] * 25
    (world.root / "data" / "week.csv").write_text("\n".join([",".join(["made_at", "age", *names]), *lines]) + "\n")
    (world.root / "data" / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    said = world.drift()
    found = troubles(said)
    assert found[""].check in ("unread", "rows_lost")
    by_check = {f.check: f for f in said.findings}
    assert "bad.parquet" in by_check["unread"].message and by_check["unread"].severity is Severity.UNKNOWN
    assert "40 broken lines and 25 rows" in by_check["rows_lost"].message
    assert {s for s in found if s} == {"age constant", "age distribution"}


@pytest.mark.parametrize("kind", ["number", "category"])
@pytest.mark.parametrize("rows", [200, 3000])
def test_a_flag_that_hardly_anybody_had(world: World, kind: str, rows: int):
    """One in a thousand before, one in five now: found, however few rows that is; the same again is not."""

    def flag(share: float, count: int, seed: int) -> Any:
        found = np.random.default_rng(seed).random(count) < share
        return found.astype(int) if kind == "number" else found

    world.write("reference.parquet", healthy(6000, 99) | {"member": flag(0.001, 6000, 1)}, SEPTEMBER, OCTOBER)
    world.profile(datetime(2026, 10, 2, tzinfo=UTC))
    week(world, rows, member=flag(0.2, rows, 2))
    assert "member distribution" in troubles(world.drift())
    week(world, rows, member=flag(0.001, rows, 3))
    assert not troubles(world.drift())


def test_a_feature_that_is_a_time(world: World):
    """Moments move on: that a feature of times is not compared is said as it is."""
    moments = pa.array(np.arange(6000).astype("datetime64[s]"))
    world.write("reference.parquet", healthy(6000, 99) | {"member": moments}, SEPTEMBER, OCTOBER)
    world.profile(datetime(2026, 10, 2, tzinfo=UTC))
    week(world, 3000, member=moments[:3000])
    (found,) = world.drift().findings
    assert found.severity is Severity.INFO and "times always move on" in found.message


def test_the_profile_of_another_model(world: World):
    """Two models whose profiles lie in one folder: the other's profile is not compared with."""
    week(world)
    entry = world.drifts.index(str(world.folder)).current
    assert entry
    other = world.drifts.load(str(world.folder), entry).model_copy(update={"target": "claims/other"})
    world.drifts.keep(str(world.folder), other, datetime(2026, 10, 2, tzinfo=UTC))
    (found,) = world.drift().findings
    assert found.severity is Severity.CRITICAL and "a profile of claims/other" in found.message
