"""What tests of updates share: advisories of our own, an index with real wheels, and the routine with its adapters."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

from tests.integration.test_outdated import Index
from upkeep.adapters import audit, http
from upkeep.adapters.outdated import make_lister
from upkeep.adapters.updates import Updates
from upkeep.core.cadence import Window
from upkeep.core.job import Job
from upkeep.core.model import Action, Finding, Judgement, Outcome
from upkeep.core.routine import Routine
from upkeep.core.targets import DependenciesTarget

ROUTINE = Routine.load("upkeep.routines.dependencies.update")
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
SAME = "2020-01-01T00:00:00Z"


def advise(folder: Path, name: str, package: str, *, introduced: str, fixed: str | None, ecosystem: str) -> None:
    """Write an advisory in the OSV format."""
    folder.mkdir(exist_ok=True)
    events = [{"introduced": introduced}, *([{"fixed": fixed}] if fixed else [])]
    affected = {
        "package": {"ecosystem": ecosystem, "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    if ecosystem == "npm":
        affected["ranges"][0]["type"] = "SEMVER"  # type: ignore[index]
    known = {"id": name, "schema_version": "1.6.0", "modified": f"{NOW:%Y-%m-%d}T00:00:00Z", "published": SAME,
             "summary": f"{package} <b>breaks</b>", "affected": [affected],
             "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}]}  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(known))


def publish(index: Index, name: str, **versions: str) -> None:
    """Add real wheels to an index: version (`v3_2_5`) -> what it requires."""
    files = []
    for word, requires in versions.items():
        version = word[1:].replace("_", ".")
        filename = f"{name}-{version}-py3-none-any.whl"
        out, info = io.BytesIO(), f"{name}-{version}.dist-info"
        with zipfile.ZipFile(out, "w") as wheel:
            needs = f"Requires-Dist: {requires}\n" if requires else ""
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        index.pages[f"/files/{filename}"] = out.getvalue()
        digest = hashlib.sha256(out.getvalue()).hexdigest()
        files.append({"filename": filename, "url": f"{index.url}/files/{filename}", "hashes": {"sha256": digest},
                      "upload-time": SAME})  # fmt: skip
    index.python(name, *files)


@dataclass
class Bench:
    """The routine on one target in a folder."""

    folder: Path
    index: Index
    text: str = "django==3.2.0\n"
    name: str = "requirements.txt"
    target: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.manifest.write_text(self.text, newline="")
        (self.folder.parent / "advisories").mkdir(exist_ok=True)

    @property
    def manifest(self) -> Path:
        """The file that is updated."""
        return self.folder / self.name

    def advise(self, name: str, package: str, introduced: str, fixed: str | None, ecosystem: str = "PyPI") -> Bench:
        """Make an advisory known."""
        advise(
            self.folder.parent / "advisories", name, package, introduced=introduced, fixed=fixed, ecosystem=ecosystem
        )
        return self

    def job(self) -> Job[Any, Any]:
        """Return a job with the adapters that an Airflow run gets."""
        tools: Any = SimpleNamespace(
            auditor=audit.Auditor(
                http.opener(lambda conn_id: None), lambda conn_id: "", self.folder.parent / "indexes"
            ),
            outdated=make_lister(lambda: self.index.registries),
            updates=Updates(lambda: self.index.registries),
            now=lambda: NOW,
            log=logging.getLogger("test"),
        )
        given = {"id": "claims/dependencies", "manifests": [str(self.manifest)],
                 "advisories": [{"folder": str(self.folder.parent / "advisories"), "max_age_days": 36500}]}  # fmt: skip
        return Job(
            routine=ROUTINE.name,
            target=DependenciesTarget.model_validate(given | self.target),
            system=SimpleNamespace(name="claims", zone=ZoneInfo("Europe/Berlin")),  # type: ignore[arg-type]
            settings=ROUTINE.resolve_settings(("test", {"content_age_days": 36500} | self.settings)),
            window=Window(start=NOW, end=NOW),
            run_id="r",
            try_number=1,
            tools=tools,
        )

    def plan(self) -> tuple[dict[str, Finding], tuple[Action, ...]]:
        """Return the findings by check, and the actions."""
        job = self.job()
        seen = ROUTINE.observe(job)
        judged: Judgement = ROUTINE.judge(job, seen)
        keys = [f.key("t", "r") for f in judged.findings]
        assert len(keys) == len(set(keys)), f"two findings have one key: {keys}"
        return {f.check: f for f in judged.findings}, ROUTINE.plan(job, seen).actions

    def act(self, action: Action) -> Outcome:
        """Do an action."""
        return ROUTINE.act(self.job(), action)
