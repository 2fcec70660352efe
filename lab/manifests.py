"""Which packages the sample systems use: requirements files and npm locks.

Their versions are ones of which the lab's mirror of advisories knows nothing bad, or somebody answers for it; what is
planted replaces a version by one of which it does.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

_PYTHON = {
    "claims/requirements.txt": """
# Insurance Claims Processing System; versions of Django, pandas and scikit-learn are those of its guide.
Django==5.1.6
djangorestframework==3.15.2
psycopg[binary]==3.2.4
celery==5.4.0
django-redis==5.4.0
boto3==1.36.16
gunicorn==23.0.0
PyJWT==2.10.1
Pillow==11.1.0
requests==2.32.3
pandas==2.2.2
scikit-learn==1.4.2
mlflow-skinny==2.20.1; python_version >= "3.9"
""",
    "molecular/requirements.txt": """
# Molecular Data Management and CRO Integration Platform, backend
fastapi==0.115.8
starlette==0.45.3
uvicorn[standard]==0.34.0
SQLAlchemy==2.0.37
asyncpg==0.30.0
redis==5.2.1
minio==7.2.15
urllib3==2.3.0
jinja2==3.1.2  # the templates of the reports to the CRO
requests==2.32.3
rdkit==2024.9.4
cryptography==44.0.1
python-multipart==0.0.20
""",
    "student/requirements.txt": """
# Student Success Prediction System
fastapi==0.115.8
starlette==0.45.3
uvicorn==0.34.0
jinja2==3.1.5
SQLAlchemy==2.0.37
numpy==2.2.2
pandas==2.2.3
scikit-learn==1.6.1
joblib==1.4.2
cryptography==44.0.1
requests==2.32.3
urllib3==2.3.0
""",
}
_NPM: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # name, what is asked for itself, what comes with it
    "campus/package-lock.json": (
        "smart-campus-assistant",
        {
            "@prisma/client": "6.3.1", "axios": "1.7.9", "cors": "2.8.5", "express": "4.21.2", "helmet": "8.0.0",
            "jsonwebtoken": "9.0.2", "lodash": "4.17.21", "nodemailer": "6.10.0", "winston": "3.17.0", "ws": "8.18.0",
        },
        {"semver": "7.7.1", "qs": "6.13.0", "body-parser": "1.20.3", "ms": "2.1.3", "follow-redirects": "1.15.9"},
    ),
    "cardiology/package-lock.json": (
        "cardiology-clinical-assistant",
        {
            "@tanstack/react-query": "5.66.0", "axios": "1.7.9", "date-fns": "4.1.0", "fhir-kit-client": "1.9.2",
            "react": "18.3.1", "react-dom": "18.3.1", "recharts": "2.15.1", "zod": "3.24.1",
        },
        # An old tool of the build brings it; nobody hands it arguments.
        {"mkdirp": "0.5.5", "minimist": "1.2.5", "semver": "7.7.1"},
    ),
}  # fmt: skip


def write_manifests(home: Path, other: dict[str, dict[str, str]]) -> None:
    """Write the manifests of all systems.

    :param other: versions that are not those above, by manifest and package: `{"claims/...": {"Django": "3.2.0"}}`.
    """
    for name, text in _PYTHON.items():
        _write(home / name, _pinned(text.lstrip("\n"), other.get(name, {})))
    for name, (project, direct, indirect) in _NPM.items():
        changed = other.get(name, {})
        _write(home / name, _lock(project, *({p: changed.get(p, v) for p, v in d.items()} for d in (direct, indirect))))
        _write(home / name.replace("-lock", ""), _package(project, {p: changed.get(p, v) for p, v in direct.items()}))


def python_versions() -> dict[str, set[str]]:
    """Return the versions of the Python packages above, by name as it is written there."""
    found: dict[str, set[str]] = {}
    for text in _PYTHON.values():
        for name, version in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([\w.]+)", text, re.MULTILINE):
            found.setdefault(name, set()).add(version)
    return found


def npm_versions() -> dict[str, set[str]]:
    """Return the versions of the npm packages above, by name."""
    found: dict[str, set[str]] = {}
    for _, direct, indirect in _NPM.values():
        for name, version in (direct | indirect).items():
            found.setdefault(name, set()).add(version)
    return found


def _pinned(text: str, other: dict[str, str]) -> str:
    for package, version in other.items():
        old = next(line for line in text.splitlines() if line.startswith(f"{package}=="))
        text = text.replace(old, f"{package}=={version}")
    return text


def _package(project: str, direct: dict[str, str]) -> str:
    return json.dumps({"name": project, "version": "1.0.0", "private": True, "dependencies": direct}, indent=2) + "\n"


def _lock(project: str, direct: dict[str, str], indirect: dict[str, str]) -> str:
    """Return a lock file of version 3, of which audits read names and versions."""
    packages: dict[str, Any] = {"": {"name": project, "version": "1.0.0", "dependencies": direct}}
    for name, version in sorted((direct | indirect).items()):
        digest = hashlib.sha512(f"{name}@{version}".encode()).hexdigest()
        packages[f"node_modules/{name}"] = {"version": version, "integrity": f"sha512-{digest[:24]}", "license": "MIT"}
    if "mkdirp" in indirect:
        packages["node_modules/mkdirp"]["dependencies"] = {"minimist": indirect["minimist"]}
    return (
        json.dumps({"name": project, "version": "1.0.0", "lockfileVersion": 3, "packages": packages}, indent=2) + "\n"
    )


def _write(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)
