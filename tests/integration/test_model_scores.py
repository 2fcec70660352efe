"""Scores of a window against scikit-learn's, on real Parquet files; late labels, changes, importance, backfills."""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from tests.integration.model_health_bench import FEATURES, NOW, Care, make, train
from upkeep.adapters.model_scores import ModelScores
from upkeep.adapters.scoring_data import ScoringData
from upkeep.core.cadence import Window
from upkeep.core.ml import Labels
from upkeep.core.model import Severity
from upkeep.core.model_health import NoScores, Scores

START = NOW - timedelta(days=1)


def labels(folder: Path, **more: Any) -> dict[str, Any]:
    source = {"files": [f"{folder}/*.parquet"], "time_column": "at"}
    return {"source": source, "label": "truth", "prediction": "said", **more}


def table(folder: Path, day: int = 0, name: str = "a", **columns: Any) -> None:
    """Write rows of one day, the window's own when `day` is 0."""
    folder.mkdir(exist_ok=True)
    count = len(next(iter(columns.values())))
    moments = [START + timedelta(days=day, seconds=60 + n * 80_000 / count) for n in range(count)]
    pq.write_table(
        pa.table({"at": pa.array(moments, pa.timestamp("us", "UTC")), **columns}), folder / f"{name}.parquet"
    )


def scores(folder: Path, **more: Any) -> Scores:
    """Score the window's rows directly."""
    asked = Labels.model_validate(labels(folder, **more))
    system: Any = type("S", (), {"name": "s", "zone": NOW.tzinfo, "targets": {}})()
    found = ModelScores(ScoringData(str, str))(asked, system, Window(start=START, end=NOW), (), 0)
    assert isinstance(found, Scores), found
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["int", "text", "mixed", "never predicted"])
def test_classes_as_scikit_learn_counts_them(tmp_path: Path, seed: int, kind: str):
    """Accuracy, precision, recall and F1, per class and macro, are scikit-learn's within 1e-12."""
    dice = np.random.default_rng(seed)
    names = np.array(["low", "middle", "high"]) if kind == "text" else np.arange(3)
    truth = names[dice.choice(3, 700, p=(0.7, 0.25, 0.05))]
    said = np.where(dice.random(700) < 0.8, truth, names[dice.integers(0, 2 if kind == "never predicted" else 3, 700)])
    if kind == "never predicted":
        said = np.where(said == 2, 0, said)
    column = said.astype(str) if kind == "mixed" else said
    table(tmp_path / "d", truth=truth, said=column)
    found = scores(tmp_path / "d")
    order = sorted(set(truth) | set(said))
    parts = metrics.precision_recall_fscore_support(truth, said, labels=order, zero_division=0.0)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, said), abs=1e-12)
    assert list(found.classes) == [str(one) for one in order]
    for at, one in enumerate(found.classes.values()):
        assert (one.precision, one.recall, one.f1) == pytest.approx([part[at] for part in parts[:3]], abs=1e-12)
        assert one.support == parts[3][at]
    macro = metrics.precision_recall_fscore_support(truth, said, average="macro", zero_division=0.0)
    assert found.macro
    assert (found.macro.precision, found.macro.recall, found.macro.f1) == pytest.approx(macro[:3], abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (["1", "0"], [True, False]),
        (["True", "False"], [1, 0]),
        (["1.0", "0.0"], [1, 0]),
        (["t", "f"], [True, False]),
        (["True", "False"], ["true", "false"]),
        ([1.0, 0.0], ["1", "0"]),
    ],
)
def test_one_truth_in_different_clothes(tmp_path: Path, truth: list[Any], said: list[Any]):
    """Yes and no are the same as text, number or boolean; the shares keep the names that the predictions have."""
    table(tmp_path / "d", truth=truth * 5, said=said * 5, p=[0.9, 0.1] * 5)
    found = scores(tmp_path / "d", probability="p", positive=True)
    assert (found.accuracy, found.brier, len(found.classes)) == (1.0, pytest.approx(0.01), 2)
    table(tmp_path / "e", truth=pa.nulls(2, pa.string()), said=said)
    assert set(scores(tmp_path / "e").shares) == set(found.shares)


def test_labels_and_predictions_that_cannot_meet(tmp_path: Path):
    """Words beside numbers are a fault of the query, not a model that is always wrong."""
    table(tmp_path / "d", truth=["approved", "denied"] * 50, said=[1, 0] * 50)
    system: Any = type("S", (), {"name": "s", "zone": NOW.tzinfo, "targets": {}})()
    asked = Labels.model_validate(labels(tmp_path / "d"))
    found = ModelScores(ScoringData(str, str))(asked, system, Window(start=START, end=NOW), (), 0)
    assert isinstance(found, NoScores) and "'approved'" in found.message and "'0', '1'" in found.message


def test_a_positive_that_no_label_is(tmp_path: Path):
    """Without a positive label nobody knows what the probability is of: no calibration rather than a wrong one."""
    table(tmp_path / "d", truth=["spam", "ham"] * 5, said=["spam", "ham"] * 5, p=[0.9, 0.1] * 5)
    assert scores(tmp_path / "d", probability="p").brier is None
    assert scores(tmp_path / "d", probability="p", positive="spam").brier == pytest.approx(0.01)


def test_calibration(tmp_path: Path):
    """Brier score is scikit-learn's; the expected calibration error is as defined; odd probabilities are counted."""
    dice = np.random.default_rng(3)
    chance = np.concatenate([dice.random(5000), [0.0, 1.0, 0.5]])
    truth = dice.random(5003) < chance**2
    table(tmp_path / "d", truth=truth, said=chance > 0.5, p=chance)
    found = scores(tmp_path / "d", probability="p", positive=True)
    assert found.brier == pytest.approx(metrics.brier_score_loss(truth, chance), abs=1e-12)
    bins = np.clip((chance * 10).astype(int), 0, 9)
    parts = [abs(truth[bins == n].mean() - chance[bins == n].mean()) * (bins == n).sum() for n in range(10)]
    assert found.ece == pytest.approx(sum(parts) / 5003, abs=1e-12)
    table(tmp_path / "e", truth=[True] * 4, said=[True] * 4, p=[0.9, float("nan"), 1.5, None])
    odd = scores(tmp_path / "e", probability="p", positive=True)
    assert (odd.odd, odd.brier) == (3, pytest.approx(0.01))


@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_regression_as_scikit_learn_has_it(tmp_path: Path, shift: float):
    """MAE, RMSE and R2 are scikit-learn's, also far from zero and over several files."""
    dice = np.random.default_rng(5)
    truth = shift + dice.normal(size=3000) * 10
    said = truth + dice.normal(size=3000)
    for n in range(3):
        part = slice(n * 1000, (n + 1) * 1000)
        table(tmp_path / "d", name=str(n), truth=truth[part], said=said[part])
    found = scores(tmp_path / "d", task="regression")
    assert found.mae == pytest.approx(metrics.mean_absolute_error(truth, said), rel=1e-12)
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(truth, said), rel=1e-12)
    assert found.r2 == pytest.approx(metrics.r2_score(truth, said), abs=1e-12)
    assert found.quantiles["p50"] == pytest.approx(np.median(said), rel=1e-12)


def test_what_cannot_be_scored(tmp_path: Path):
    """A column that is not there is told; numbers without end are no classes."""
    table(tmp_path / "d", truth=np.random.default_rng(1).random(2000), said=np.random.default_rng(2).random(2000))
    system: Any = type("S", (), {"name": "s", "zone": NOW.tzinfo, "targets": {}})()
    score, window = ModelScores(ScoringData(str, str)), Window(start=START, end=NOW)
    wrong = Labels.model_validate(labels(tmp_path / "d", label="verdict"))
    found = score(wrong, system, window, (), 0)
    assert isinstance(found, NoScores) and "verdict" in found.message
    found = score(Labels.model_validate(labels(tmp_path / "d")), system, window, (), 0)
    assert isinstance(found, NoScores) and "regression" in found.hint


@pytest.fixture
def care(tmp_path: Path) -> Care:
    """A model with labels and the claims guide's limit."""
    care = make(tmp_path)
    care.target |= {
        "labels": labels(tmp_path / "labels"),
        "thresholds": {"accuracy_percent": {"warning": 95, "direction": "below"}},
    }
    return care


def fill(
    care: Care, day: int = 0, *, right: float = 0.97, rows: int = 1000, labelled: float = 1.0, ones: float = 0.3
) -> None:
    dice = np.random.default_rng(100 + day)
    said = (dice.random(rows) < ones).astype(int)
    truth = np.where(dice.random(rows) < right, said, 1 - said)
    known = [int(one) if n < labelled * rows else None for n, one in enumerate(truth)]
    table(care.folder.parent / "labels", day, name=f"d{day}", truth=pa.array(known, pa.int64()), said=said)


def test_a_good_model_gives_no_trouble(care: Care):
    """Scores are recorded; nothing is found."""
    fill(care)
    result = care.run("scores", importance=False)
    assert (result.findings, result.state) == ((), "success")
    assert result.measurements["score.accuracy_percent", ""] > 95
    assert result.measurements["prediction.share", "1"] == pytest.approx(30, abs=5)
    assert result.measurements["class.recall", "1"] > 90


def test_accuracy_below_the_guides_limit(care: Care):
    """CL-W06: less than 95 % is a warning that names value, limit and the weakest class."""
    fill(care, right=0.9)
    found = care.run("scores").found("accuracy_percent")
    assert found.severity is Severity.WARNING and found.limit == "95 %" and "weakest is class" in found.message


def test_a_limit_that_cannot_be_checked(care: Care):
    """A limit for a score that there is not is unknown, and does not pass for kept."""
    care.target["thresholds"]["brier"] = {"warning": 0.2}
    fill(care)
    found = care.run("scores", importance=False).found("brier")
    assert found.severity is Severity.UNKNOWN and "probability" in found.hint


@pytest.mark.parametrize(
    ("rows", "labelled", "severity", "judged"),
    [
        (1000, 0.0, "unknown", False),
        (1000, 0.3, "unknown", False),
        (1000, 0.7, "info", True),
        (50, 1.0, "unknown", False),
        (1000, 0.95, None, True),
    ],
)
def test_labels_that_come_late(care: Care, rows: int, labelled: float, severity: str | None, judged: bool):
    """Too few labels are unknown, with their number, and the scores are not judged; some missing is told."""
    fill(care, right=0.5, rows=rows, labelled=labelled)
    result = care.run("scores")
    told = [f for f in result.findings if f.check == "labels"]
    assert [f.severity for f in told] == ([severity] if severity else [])
    assert bool([f for f in result.findings if f.check == "accuracy_percent"]) == judged
    assert all(f"{round(labelled * rows)} of {rows}" in f.message for f in told)


def test_rows_that_never_got_a_label(care: Care, tmp_path: Path):
    """What the model was asked about counts, also where the labels know nothing of it."""
    fill(care, rows=300)
    table(tmp_path / "asked", said=[1] * 1000)
    care.target["scoring"] = {"files": [f"{tmp_path}/asked/*.parquet"], "time_column": "at"}
    found = care.run("scores").found("labels")
    assert found.severity is Severity.UNKNOWN and "300 of 1000" in found.message


def test_no_labels_and_no_rows(care: Care):
    """Nothing asked in the window is information, where that is known; so are labels that nobody configured."""
    fill(care, day=-9)
    assert care.run("scores").found("labels").severity is Severity.UNKNOWN
    care.target["scoring"] = care.target["labels"]["source"]
    assert care.run("scores").found("labels").severity is Severity.INFO
    del care.target["labels"]
    assert care.run("scores").found("labels").severity is Severity.INFO


def test_a_backfill_says_what_a_run_on_time_said(care: Care):
    """Each window has its own rows only, in whatever order the windows are judged; a lag moves the window."""
    for day in range(-4, 1):
        fill(care, day, right=0.99 + 0.002 * day)

    def accuracy(day: int, **settings: Any) -> float:
        window = Window(start=START + timedelta(days=day), end=NOW + timedelta(days=day), newest=day == 0)
        fresh = dataclasses.replace(care, window=window, histories={})
        return fresh.run("scores", **settings).measurements["score.accuracy_percent", ""]

    on_time = [accuracy(day) for day in range(-4, 1)]
    assert [accuracy(day) for day in range(0, -5, -1)] == on_time[::-1]
    assert len(set(on_time)) > 1
    assert accuracy(0, lag_days=2) == on_time[2]


def test_a_changed_distribution_of_predictions(care: Care):
    """A class that is said much more often than before is a warning; the same share again is not."""
    for day in range(-6, 0):
        fill(care, day)
        past = dataclasses.replace(
            care, window=Window(start=START + timedelta(days=day), end=NOW + timedelta(days=day), newest=False)
        )
        assert past.run("scores", importance=False).findings == ()
    fill(care, ones=0.6)
    result = care.run("scores", importance=False)
    assert {f.subject: f.severity for f in result.findings if f.check == "share"} == {"0": "warning", "1": "warning"}
    fill(care)
    care.histories["scores"].points = {k: v[:6] for k, v in care.history("scores").points.items()}
    assert care.run("scores", importance=False).findings == ()


def with_features(care: Care, **columns: Any) -> None:
    dice = np.random.default_rng(11)
    rows = dice.normal(size=(300, 3))
    said = train().predict(rows)
    features = {name: rows[:, at] for at, name in enumerate(FEATURES)} | columns
    table(care.folder.parent / "labels", truth=said, said=said, **features)


def test_importance_and_documentation(care: Care):
    """What matters is measured with the model in service and recorded; the documentation holds it, harmlessly."""
    with_features(care)
    result = care.run("scores")
    assert result.troubles == []
    importance = {name: result.measurements["importance", name] for name in FEATURES}
    assert importance["clicks"] > 0.1 and importance["score"] > 0.1 and abs(importance["noise"]) < 0.05
    again = care.run("scores")
    assert {name: again.measurements["importance", name] for name in FEATURES} == importance
    document = result.evidence("document")["artefact"]
    assert document["sha256"] == hashlib.sha256(document["content"].encode()).hexdigest()
    assert "| version | 1 |" in document["content"] and "| clicks |" in document["content"]
    assert "accuracy\\_percent | 100 % | 95 |" in document["content"]


def test_importance_that_changed(care: Care):
    """A feature that the model suddenly leans on less is told, when the change is larger than chance and limit."""
    with_features(care)
    for _ in range(2):
        assert care.run("scores", windows=2).troubles == []
    with_features(care, clicks=np.zeros(300))
    found = {f.subject: f.severity for f in care.run("scores", windows=2).findings if f.check == "importance"}
    assert found["clicks"] is Severity.WARNING and "noise" not in found


def test_importance_needs_a_model_that_may_be_loaded(care: Care):
    """Without a known hash, or in an old window, importance is passed over, and the documentation says why."""
    with_features(care)
    care.window = care.window.model_copy(update={"newest": False})
    result = care.run("scores")
    assert not [m for m in result.measurements if m[0] == "importance"]
    assert "old window" in result.evidence("document")["artefact"]["content"]
    care.window = care.window.model_copy(update={"newest": True})
    (care.folder / "model_metadata.json").write_text('{"features": ["clicks", "score", "noise"]}')
    result = care.run("scores")
    assert "0 model files that may be loaded" in result.evidence("document")["artefact"]["content"]
