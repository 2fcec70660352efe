"""Understanding the metadata that training programs write, under whichever of the usual names they use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from upkeep.core.model_health import Metadata

_TRAINED = (
    "trained", "training_date", "trained_at", "train_date", "trained_on", "last_trained", "training_time",
    "training_timestamp", "created_at", "created", "timestamp", "date",
)  # fmt: skip
_VERSION = ("version", "model_version", "registry_version")
_FEATURES = ("features", "feature_names", "feature_columns", "input_features", "columns")
_COUNT = ("feature_count", "n_features", "num_features", "n_features_in")
_METRICS = ("metrics", "scores", "performance", "evaluation", "results")
_METRIC = re.compile(
    r"(^|[_.\- ])(accuracy|acc|f1|auc|roc|precision|recall|score|rmse|mae|mse|r2|brier|log_?loss|loss|ece|kappa|mcc)"
    r"($|[_.\- ])", re.IGNORECASE,
)  # fmt: skip
_HASH = ("sha256", "model_sha256", "model_hash", "hash", "checksum")
_HASHES = ("hashes", "sha256", "checksums", "files", "artifacts", "artefacts", "model_files")
_FILE = ("model", "model_file", "file", "filename", "path", "name")
_HEX = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


def understood(data: bytes, name: str) -> Metadata:
    """Return what a metadata file says; `error` when it is no JSON object."""
    try:
        said = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Metadata(name=name, error="it is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Metadata(name=name, error=f"it is not JSON: {str(error)[:120]}")
    if not isinstance(said, dict):
        return Metadata(name=name, error=f"it holds a {type(said).__name__}, expected an object")
    said = {str(key).lower(): value for key, value in said.items()}
    features = _features(said)
    return Metadata(
        name=name,
        version=_version(said),
        trained=next((moment for key in _TRAINED if (moment := _moment(said.get(key)))), None),
        features=features,
        feature_count=_count(said, features),
        metrics=_metrics(said),
        hashes=_hashes(said),
    )


def _version(said: Mapping[str, Any]) -> str:
    value = next((said[key] for key in _VERSION if isinstance(said.get(key), str | int | float)), "")
    return str(value)[:80]


def _moment(value: Any) -> datetime | None:
    """Read a date: ISO 8601, or seconds since 1970. One without a zone is taken as UTC."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 1e8:
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _features(said: Mapping[str, Any]) -> tuple[str, ...]:
    for key in _FEATURES:
        value = said.get(key)
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            return tuple(value)
        if isinstance(value, dict) and value:
            return tuple(map(str, value))
    return ()


def _count(said: Mapping[str, Any], features: tuple[str, ...]) -> int | None:
    stated = (said.get(key) for key in (*_COUNT, "features"))
    return next((value for value in stated if type(value) is int), len(features) or None)


def _metrics(said: Mapping[str, Any]) -> dict[str, float]:
    """Return all numbers below the usual names, and those at the top whose own name is a metric's."""
    found = {key: value for key, value in said.items() if _METRIC.search(key) and _is_number(value)}
    for key in _METRICS:
        if isinstance(said.get(key), dict):
            found |= _numbers(said[key], "", 3)
    return {name[:80]: float(value) for name, value in list(found.items())[:200]}


def _numbers(said: Mapping[Any, Any], above: str, depth: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in said.items():
        name = f"{above}{key}"
        if _is_number(value):
            found[name] = float(value)
        elif isinstance(value, dict) and depth > 1:
            found |= _numbers(value, f"{name}.", depth - 1)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _hashes(said: Mapping[str, Any]) -> dict[str, str]:
    """Return the stated hashes by file name, the empty name for one that is stated without."""
    found: dict[str, str] = {}
    for key in _HASHES:
        value = said.get(key)
        items = value.items() if isinstance(value, dict) else ((None, one) for one in value or ()) if isinstance(
            value, list) else ()  # fmt: skip
        for name, one in items:
            found |= _hash_of(name, one)
    alone = next((_hex(said[key]) for key in _HASH if _hex(said.get(key))), "")
    if alone:
        named = next((said[key] for key in _FILE if isinstance(said.get(key), str) and "." in said[key]), "")
        found[named.rsplit("/", 1)[-1]] = alone
    return found


def _hash_of(name: str | None, one: Any) -> dict[str, str]:
    if isinstance(one, dict):
        name = name or next((str(one[key]) for key in _FILE if one.get(key)), None)
        one = next((one[key] for key in _HASH if one.get(key)), None)
    return {name: _hex(one)} if name and _hex(one) else {}


def _hex(value: Any) -> str:
    match = _HEX.fullmatch(value.strip()) if isinstance(value, str) else None
    return match[1].lower() if match else ""
