"""The risk models of claims and student: trained once for this version of the lab, copied into each home.

Services answer from the weights beside the pickle, which are the very model's: loading scikit-learn costs a second.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.model_rows import KINDS, Kind
from lab.process import LabError, exclusive
from lab.train import ROWS, VERSION
from lab.wheels import lab_root

FOLDERS = {"claims": "claims/models", "student": "student/results/models"}
FILES = ("risk_model.pkl", "risk_model.json")
TRAINED_DAYS_AGO = 20
# A model that a lab has kept for so long is said to be trained anew: it is to stay a healthy one.
_RENEWED_DAYS = 45


def seed_models(home: Path, now: datetime) -> None:
    """Put the models and what is said of them into their folders, unless they are there."""
    with ThreadPoolExecutor(len(FOLDERS)) as pool:
        trained = dict(zip(FOLDERS, pool.map(trained_model, FOLDERS), strict=True))
    for name, folder in FOLDERS.items():
        metadata = home / folder / "model_metadata.json"
        known = json.loads(metadata.read_text()) if metadata.exists() else {}
        young = "training_date" in known and now - datetime.fromisoformat(known["training_date"]) < timedelta(
            days=_RENEWED_DAYS
        )
        if young and known["hashes"] == _hashes(trained[name]):
            continue
        put_model(home, name, trained[name])
        date = (now - timedelta(days=TRAINED_DAYS_AGO)).replace(hour=3, minute=0, second=0, microsecond=0)
        write_metadata(home / folder, KINDS[name], trained[name], date)


def write_metadata(folder: Path, kind: Kind, trained: Path, date: datetime, version: str = VERSION) -> None:
    """Write what is said of a model, under the names of the student guide as well (ST-M04)."""
    _replace(folder / "model_metadata.json", _json(_metadata(kind, trained, date, version)))


def put_model(home: Path, name: str, trained: Path | None = None) -> None:
    """Copy a model's files into the folder from which its service answers."""
    folder = home / FOLDERS[name]
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        _replace(folder / file, ((trained or trained_model(name)) / file).read_bytes())


def trained_model(name: str) -> Path:
    """Return the folder with a trained model; trains it when nobody has with this code and these libraries."""
    sources = [Path(__file__).with_name(f"{part}.py").read_bytes() for part in ("model_rows", "train")]
    text = b"".join(sources) + f"{sys.version} {version('scikit-learn')} {version('numpy')}".encode()
    folder = lab_root() / f"models-{hashlib.sha256(text).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / f".{name}.lock"):
        if not (folder / name).exists():
            _train(name, folder / f".{name}.new")
            (folder / f".{name}.new").rename(folder / name)
    return folder / name


def _train(name: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "lab.train", name, folder], cwd=Path(__file__).parent.parent, capture_output=True,
        text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"training the model of {name} failed:\n{done.stderr[-2000:]}")


def _metadata(kind: Kind, trained: Path, date: datetime, version: str) -> dict[str, Any]:
    scores = json.loads((trained / "scores.json").read_text())
    return {
        "model": "risk-model",
        "version": version,
        "training_date": date.isoformat(),
        "training_rows": ROWS,
        "features": kind.features,
        "feature_count": len(kind.features),
        "metrics": scores,
        "binary_accuracy": scores["accuracy"],
        "hashes": _hashes(trained),
    }


def _hashes(folder: Path) -> dict[str, str]:
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in FILES}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.chmod(0o644)
    fresh.replace(path)


class RiskModel:
    """A model by its numbers, as a service has it."""

    def __init__(self, file: Path) -> None:
        self._told = json.loads(file.read_text())

    @property
    def name(self) -> str:
        """What the service says that it answers with."""
        return f"risk-{self._told['version']}"

    def effects(self, asked: dict[str, Any]) -> dict[str, float]:
        """Return what each feature adds to the log odds; one that is not given counts as the training's mean."""
        found = {}
        for name, one in self._told["numeric"].items():
            value = asked.get(name)
            found[name] = (
                one["weight"] * ((one["default"] if value is None else float(value)) - one["mean"]) / one["scale"]
            )
        for name, weights in self._told["categories"].items():
            found[name] = weights.get(asked.get(name), 0.0)
        return found

    def probability(self, effects: dict[str, float]) -> float:
        """Return the probability of a high risk."""
        return 1 / (1 + math.exp(-(self._told["intercept"] + sum(effects.values()))))
