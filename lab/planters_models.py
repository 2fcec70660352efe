"""How the faults of packages and models are planted and taken away.

Those of the scoring data lie in the newest window of the weekly runs; planters only note them, `scoring.write_scoring`
and `manifests.write_manifests` write afterwards.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lab.model_rows import Columns
from lab.models import FOLDERS, TRAINED_DAYS_AGO, put_model
from lab.planted import Planted
from lab.planters import set_web_fault
from lab.scoring import Change

if TYPE_CHECKING:
    import numpy as np

    from lab.embedded import Lab

# The versions of which the mirror of advisories knows the most, by manifest.
_VULNERABLE = {"claims/requirements.txt": ("Django", "3.2.0"), "campus/package-lock.json": ("lodash", "4.17.11")}
_OLD = {"student/requirements.txt": ("SQLAlchemy", "1.4.54")}
OLD_DAYS = 200
_FLIPPED = 0.06  # of the labels: the model is right 97 times in 100 without


def vulnerable_packages(lab: Lab, planted: bool) -> None:
    """Pin a Django and a lodash that are known to be vulnerable, or the versions that are not."""
    for manifest, (package, version) in _VULNERABLE.items():
        Planted(lab.home).set(f"manifests/{manifest}", f"{package}=={version}", planted)


def outdated_package(lab: Lab, planted: bool) -> None:
    """Pin an SQLAlchemy that is a major version behind, or the newer one."""
    for manifest, (package, version) in _OLD.items():
        Planted(lab.home).set(f"manifests/{manifest}", f"{package}=={version}", planted)


def expired_ignore(lab: Lab, planted: bool) -> None:
    """Let the time have run out for which cardiology's file says that a vulnerability may stay."""
    file = lab.system_files / "cardiology.yaml"
    until = datetime.now(UTC).date() + timedelta(days=-5 if planted else 60)
    text, found = re.subn(r"until: \d{4}-\d\d-\d\d", f"until: {until}", file.read_text())
    assert found == 1
    file.write_text(text)


def drifted_features(lab: Lab, planted: bool) -> None:
    """Let claims be reported later than they used to be, from a new kind of policy, and often without their ratio."""
    Planted(lab.home).set("scoring/claims", "features", planted)


def inaccurate_week(lab: Lab, planted: bool) -> None:
    """Let the claims model be right in 92 of 100 cases in one week."""
    Planted(lab.home).set("scoring/claims", "labels", planted)


def changed_model_file(lab: Lab, planted: bool) -> None:
    """Let student's pickle be another one than its metadata say, as after a copy by hand; or put the right one back."""
    put_model(lab.home, "student")
    if planted:
        file = lab.home / FOLDERS["student"] / "risk_model.pkl"
        file.write_bytes(file.read_bytes() + b"\n")  # after the end of the pickle: it still loads


def old_training(lab: Lab, planted: bool) -> None:
    """Let student's metadata say that the model was trained long ago, or as lately as all the others."""
    file = lab.home / FOLDERS["student"] / "model_metadata.json"
    told = json.loads(file.read_text())
    now = datetime.now(UTC)
    is_old = now - datetime.fromisoformat(told["training_date"]) > timedelta(days=OLD_DAYS // 2)
    if is_old is not planted:
        days = OLD_DAYS if planted else TRAINED_DAYS_AGO
        date = (now - timedelta(days=days)).replace(hour=3, minute=0, second=0, microsecond=0)
        file.write_text(json.dumps(told | {"training_date": date.isoformat()}, indent=2) + "\n")


def slow_prediction(lab: Lab, planted: bool) -> None:
    """Let claims' model take its time."""
    set_web_fault(lab, "claims", "/api/predict", {"delay": 0.25} if planted else None)


def pins(lab: Lab) -> dict[str, dict[str, str]]:
    """Return the versions that are planted, by manifest and package."""
    known = Planted(lab.home)
    found = {name: known.names(f"manifests/{name}") for name in {**_VULNERABLE, **_OLD}}
    return {name: dict(pin.split("==") for pin in some) for name, some in found.items()}


def scoring_changes(lab: Lab) -> dict[str, dict[str, Change]]:
    """Return what is planted in the scoring data, by system."""
    return {"claims": {name: CHANGES[name] for name in Planted(lab.home).names("scoring/claims")}}


def _features(generator: np.random.Generator, columns: Columns) -> None:
    import numpy as np

    count = len(columns["label"])
    columns["days_to_report"] = columns["days_to_report"] + 6
    columns["amount_ratio"] = np.where(generator.uniform(size=count) < 0.2, np.nan, columns["amount_ratio"])
    columns["policy_kind"] = np.where(generator.uniform(size=count) < 0.03, "marine", columns["policy_kind"])


def _labels(generator: np.random.Generator, columns: Columns) -> None:
    columns["label"] = columns["label"] ^ (generator.uniform(size=len(columns["label"])) < _FLIPPED)


CHANGES: dict[str, Change] = {"features": _features, "labels": _labels}
