"""Files of the sample systems: uploads, configuration and a little code, the same every time."""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import sys
from pathlib import Path

_MARK = ".trees"
_VERSION = "5"
_WHEN = 1_760_000_000  # every file was last changed then, so that the seed is the same on every day
_FOLDERS = (
    "claims/uploads", "claims/etc", "cardiology/config", "campus/config",
)  # fmt: skip


def seed_trees(home: Path) -> None:
    """Make the files of all systems below the lab's home, unless this very seed is there.

    Of the folders that are made here whatever else lies in them is removed with the old seed.
    """
    mark = home / _MARK
    if mark.exists() and mark.read_text() == _VERSION:
        return
    for folder in _FOLDERS:
        shutil.rmtree(home / folder, ignore_errors=True)
    dice = random.Random(7)
    for name, (data, mode) in {**_uploads(dice), **_configuration(dice), **_code()}.items():
        _write(home / name, data, mode)
    _link(home / "claims/uploads/latest", "2026/11")
    mark.write_text(_VERSION)


def _uploads(dice: random.Random) -> dict[str, tuple[bytes, int]]:
    """Photos and documents of claims; some were sent twice."""
    found = {}
    for number in range(240):
        month, suffix = number % 11 + 1, ("jpg", "pdf", "png")[number % 3]
        again = number - 1 if number % 20 == 19 else number
        data = _noise(f"claim {again}", 400 + dice.randrange(30_000))
        found[f"claims/uploads/2026/{month:02}/claim-{number:05}.{suffix}"] = (data, 0o640)
    found["claims/uploads/2026/11/unfall schaden größe.jpg"] = (_noise("photo", 180_000), 0o640)
    found["claims/uploads/2026/11/survey.tif"] = (_noise("survey", 9_500_000), 0o640)
    return found


def _configuration(dice: random.Random) -> dict[str, tuple[bytes, int]]:
    """Settings and secrets, which are none of anybody's: they are made up here."""
    secret = f"{dice.getrandbits(128):032x}"
    nginx = "server {\n  listen 443 ssl;\n  location / { proxy_pass http://127.0.0.1:8000; }\n}\n"
    texts = {
        "claims/.env": f"DJANGO_SECRET_KEY={secret}\nDEBUG=false\nCELERY_WORKERS=4\n",
        "claims/etc/gunicorn.conf.py": "workers = 4\ntimeout = 30\n",
        "claims/etc/nginx/sites/claims.conf": nginx,
        "claims/etc/logrotate.d/claims": "/var/log/django/*.log {\n  daily\n  rotate 14\n  compress\n}\n",
        "cardiology/config/app.yaml": "session_minutes: 15\nalert_after_seconds: 5\n",
        "cardiology/config/secrets.yaml": f"signing_key: {secret[::-1]}\n",
        "cardiology/config/fhir/mapping.json": json.dumps({"Patient": ["id", "birthDate"], "Observation": ["code"]}),
        "campus/config/application.properties": "server.port=8080\nspring.jpa.open-in-view=false\n",
        "campus/config/keys/service.key": f"{secret}{secret}\n",
    }
    return {name: (text.encode(), 0o640 if "nginx" in name else 0o600) for name, text in texts.items()}


def _code() -> dict[str, tuple[bytes, int]]:
    return {
        "student/app/predict.py": (b'"""Predicts who may need help."""\n\nTHRESHOLD = 0.6\n', 0o644),
        # They work: a retraining that somebody agreed to runs them.
        "student/scripts/retrain.sh": (_script("train"), 0o755),
        "student/scripts/test_model.sh": (_script("test"), 0o755),
    }


def _script(task: str) -> bytes:
    root = Path(__file__).resolve().parent.parent
    command = f'exec {shlex.quote(sys.executable)} -m lab.retrain {task} student "$1"'
    return f"#!/bin/sh\ncd {shlex.quote(str(root))} && {command}\n".encode()


def _noise(seed: str, size: int) -> bytes:
    """Return bytes that do not compress, like photos, the same for the same seed and size."""
    return random.Random(seed).randbytes(size)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, (_WHEN, _WHEN))


def _link(path: Path, target: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)
