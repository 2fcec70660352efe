"""Trains a sample system's model: `python -m lab.train <system> <folder>`. A process of its own, for scikit-learn.

Writes the model as a pickle, the same as numbers for services that need not load scikit-learn, and what is said of it.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

from lab.model_rows import KINDS, Kind, dice, rows

VERSION = "3.2.0"
ROWS = 12_000


def train(kind: Kind, folder: Path, version: str = VERSION, count: int = ROWS) -> None:
    """Train on seeded rows and write `risk_model.pkl`, `risk_model.json` and `scores.json`."""
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    known, unseen = rows(kind, dice(kind.name, "training"), count), rows(kind, dice(kind.name, "test"), ROWS // 4)
    model = _pipeline(kind).fit(_table(kind, known), known["label"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "risk_model.pkl").write_bytes(pickle.dumps(model, protocol=4))
    (folder / "risk_model.json").write_text(json.dumps(_numbers(kind, model, version), indent=1) + "\n")
    said, truth = model.predict(_table(kind, unseen)), unseen["label"]
    scores = {
        "accuracy": accuracy_score(truth, said),
        "f1": f1_score(truth, said),
        "auc": roc_auc_score(truth, model.predict_proba(_table(kind, unseen))[:, 1]),
    }
    (folder / "scores.json").write_text(json.dumps({name: round(float(value), 4) for name, value in scores.items()}))


def _pipeline(kind: Kind) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    parts = [
        ("numbers", numbers, list(range(len(kind.numeric)))),
        ("category", OneHotEncoder(handle_unknown="ignore"), [len(kind.numeric)]),
    ]
    return make_pipeline(ColumnTransformer(parts), LogisticRegression(C=50, max_iter=500))


def _table(kind: Kind, columns: Any) -> Any:
    """Return the features as one array of objects, without names: which they are stands in the metadata."""
    import numpy as np

    return np.column_stack([columns[name].astype(object) for name in kind.features])


def _numbers(kind: Kind, model: Any, version: str) -> dict[str, Any]:
    """Return the model as means, scales and weights."""
    transformer, logistic = model[0], model[1]
    imputer, scaler = transformer.named_transformers_["numbers"]
    weights = logistic.coef_[0].tolist()
    numeric = {
        name: {"default": default, "mean": mean, "scale": scale, "weight": weight}
        for name, default, mean, scale, weight in zip(
            kind.numeric, imputer.statistics_.tolist(), scaler.mean_.tolist(), scaler.scale_.tolist(), weights,
            strict=False,
        )
    }  # fmt: skip
    values = transformer.named_transformers_["category"].categories_[0].tolist()
    category = {kind.category: dict(zip(values, weights[len(kind.numeric) :], strict=True))}
    return {
        "kind": "logistic-regression", "version": version, "intercept": float(logistic.intercept_[0]),
        "numeric": numeric, "categories": category,
    }  # fmt: skip


if __name__ == "__main__":
    train(KINDS[sys.argv[1]], Path(sys.argv[2]))
