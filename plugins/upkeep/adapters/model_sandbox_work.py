"""What is done with a loaded model in the restricted process: timing it, and how much each feature matters to it."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import Any


def carry_out(order: dict[str, Any], model: Any) -> dict[str, Any]:
    """Do what was ordered: `load` (nothing more), `time` or `importance`."""
    task = order["task"]
    if task == "load":
        return {"features": _names(model), "predicts": hasattr(model, "predict")}
    predict = getattr(model, "predict", None)
    if predict is None:
        return {"ok": False, "why": "predict", "detail": f"{type(model).__qualname__} has no predict()"}
    with _one_thread():
        if task == "time":
            return {"milliseconds": _times(order, model, predict)}
        return _importance(order, model, predict)


def _names(model: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _one_thread() -> Any:
    """Models that ask for several processes get none here."""
    try:
        joblib: Any = importlib.import_module("joblib")
        return joblib.parallel_config(backend="sequential")
    except (ImportError, AttributeError):
        return contextlib.nullcontext()


def _table(columns: dict[str, list[Any]], model: Any) -> Any:
    """Return rows as the model was trained on: a frame where it knows names and pandas is there, else an array."""
    import numpy as np

    names = _names(model)
    order = [name for name in names if name in columns] if names else list(columns)
    if names and len(order) != len(names):
        raise ValueError(f"the model wants {', '.join(n for n in names if n not in columns)}, which the data lack")
    chosen = {name: _with_gaps(columns[name]) for name in order}
    if names:
        try:
            pandas: Any = importlib.import_module("pandas")
            return pandas.DataFrame(chosen)
        except ImportError:
            pass
    numeric = all(isinstance(value, (int, float)) for values in chosen.values() for value in values)
    table = np.empty((len(next(iter(chosen.values()))), len(chosen)), dtype=float if numeric else object)
    for at, values in enumerate(chosen.values()):
        table[:, at] = values
    return table


def _with_gaps(values: list[Any]) -> list[Any]:
    """Return numbers with NaN where one is missing, as imputers expect it; text keeps its None."""
    numeric = all(value is None or isinstance(value, (int, float)) for value in values)
    return [float("nan") if value is None else value for value in values] if numeric else values


def _times(order: dict[str, Any], model: Any, predict: Any) -> list[float]:
    rows, taken = _table(order["columns"], model), []
    for number in range(order["warm_up"] + order["tries"]):
        begun = time.perf_counter()
        predict(rows)
        if number >= order["warm_up"]:
            taken.append(1000 * (time.perf_counter() - begun))
    return taken


def _importance(order: dict[str, Any], model: Any, predict: Any) -> dict[str, Any]:
    """Return how much the score falls when a column is shuffled, mean and deviation over the repeats.

    Permutation importance: Breiman 2001, https://doi.org/10.1023/A:1010933404324; score: accuracy, or R2.
    """
    import numpy as np

    truth, dice = order["labels"], np.random.default_rng(order["seed"])
    score = _accuracy if order["classification"] else _r2
    names = [name for name in (_names(model) or order["columns"]) if name in order["columns"]]
    base = score(truth, predict(_table(order["columns"], model)))
    found: dict[str, Any] = {}
    for name in names:
        falls = []
        for _ in range(order["repeats"]):
            values = order["columns"][name]
            shuffled = [values[at] for at in dice.permutation(len(values))]
            falls.append(base - score(truth, predict(_table({**order["columns"], name: shuffled}, model))))
        found[name] = [float(np.mean(falls)), float(np.std(falls))]
    return {"score": base, "importance": found}


def _accuracy(truth: list[Any], said: Any) -> float:
    pairs = zip(truth, said.tolist(), strict=False)
    return sum(1 for wanted, given in pairs if wanted == given or str(wanted) == str(given)) / len(truth)


def _r2(truth: list[Any], said: Any) -> float:
    import numpy as np

    wanted = np.asarray(truth, dtype=float)
    spread = float(np.sum((wanted - wanted.mean()) ** 2))
    return 1 - float(np.sum((wanted - np.asarray(said, dtype=float)) ** 2)) / spread if spread else 0.0
