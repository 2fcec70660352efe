"""`DependencyAuditOperator` as a task runs it: system file, real ledger, retries, and what the next run remembers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from lab.postgres import MAJORS, PostgresServer
from tests.integration.advisory_server import DATA
from tests.integration.audit_bench import PINS, Bench, of, unknown
from tests.integration.database_bench import database, server
from upkeep.adapters import packages_debian
from upkeep.adapters.packages import listed
from upkeep.core.audit import Limits, Verdict
from upkeep.core.errors import CriticalFindingError
from upkeep.core.targets import DependenciesTarget
from upkeep.ledger import events as ev
from upkeep.operators.wiring import open_ledger

SYSTEM = """
name: claims
title: Claims
contacts: {{dba: {{primary: {{name: Ann, channels: [{{kind: email, address: ann@example.org}}]}}}}}}
settings: {{dependencies.audit: {{content_age_days: 36500}}}}
targets:
  python:
    kind: dependencies
    manifests: [{folder}/requirements.txt]
    advisories: [{{folder: {folder}/mirror, max_age_days: 36500}}]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A system with vulnerable pins, a mirror of advisories, and a ledger."""
    pg = server(MAJORS[-1])
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "claims.yaml").write_text(SYSTEM.format(folder=tmp_path))
    (tmp_path / "requirements.txt").write_text(PINS)
    shutil.copytree(DATA, tmp_path / "mirror")
    with database(pg, "upkeep_ledger"):
        monkeypatch.setenv("UPKEEP_SYSTEMS_DIR", str(tmp_path / "systems"))
        monkeypatch.setenv("UPKEEP_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("AIRFLOW_CONN_UPKEEP_LEDGER", pg.dsn("upkeep_ledger"))
        yield pg


def audit(run: str) -> Any:
    """Run the operator as Airflow does in a manual run, which its first task has put on record."""
    from upkeep.operators.dependencies import DependencyAuditOperator

    now = datetime.now(UTC)
    key = ev.RunKey(dag_id="care", run_id=run)
    with open_ledger() as ledger:
        ledger.write(
            ev.RunOpened(at=now, run=key, cadence="weekly", run_type="manual", window_start=now, window_end=now)
        )
    told = {"dag_id": "care", "run_id": run, "run_type": "manual", "data_interval_start": now, "data_interval_end": now}
    context: Any = {
        "dag_run": SimpleNamespace(**told),
        "ti": SimpleNamespace(try_number=1, max_tries=0),
        "dag": SimpleNamespace(timetable=None),
        "params": {},
    }
    return DependencyAuditOperator(task_id="audit", target="claims/python").execute(context)


def test_two_runs_and_a_ledger_that_remembers(site: PostgresServer, metadata_db: None) -> None:
    """The first run fails on what is new and keeps the bill; a week later the same informs, and no bill is kept."""
    with pytest.raises(CriticalFindingError):
        audit("first")
    with site.connect("upkeep_ledger") as ledger:
        ledger.execute("update upkeep.measurement set value = value - 6 * 86400 where name like 'vulnerability.%'")
        ledger.commit()
        assert _rows(ledger, "select count(*) from upkeep.finding where severity = 'critical'")[0][0] > 20
        bills = _rows(ledger, "select a.name, a.target, c.content from upkeep.artefact as a"
                              " join upkeep.artefact_content as c using (sha256)")  # fmt: skip
    ((name, target, content),) = bills
    assert (name, target) == ("sbom.cdx.json", "claims/python")
    assert {c["name"] for c in json.loads(content)["components"]} == {"django", "requests", "pillow", "urllib3"}
    summary = audit("second")
    assert (summary["severity"], summary["actions"], summary["findings"]) == ("info", 0, 30)


def _rows(connection: psycopg.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement).fetchall()


def test_debian_packages_of_this_machine(tmp_path: Path) -> None:
    """An advisory by source package is found in the binary packages built from it; one that is fixed here is not."""
    ours_here = packages_debian.installed()
    if not ours_here.packages:
        pytest.skip("this machine has no Debian packages")
    one = next(p for p in ours_here.packages if p.source_package and p.source_package != p.name)
    ours = one.source_version or one.version
    for number, fixed in enumerate((f"{ours}+later1", ours), 1):
        document = {
            "id": f"DSA-{number}-1",
            "modified": datetime.now(UTC).isoformat(),
            "affected": [
                {
                    "package": {"ecosystem": one.ecosystem, "name": one.source_package},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}],
                    "ecosystem_specific": {"urgency": "low"},
                }
            ],
        }
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    bench = Bench(tmp_path, {"ecosystem": "debian", "advisories": [{"folder": str(tmp_path)}]})
    judgement = bench.run(keep_bill=False)
    assert bench.verdict is Verdict.VULNERABLE
    assert {v.id for v in bench.audited.vulnerabilities} == {"DSA-1-1"}
    assert one.name in {v.package.name for v in bench.audited.vulnerabilities}
    assert all(f.observed == "low" for f in of(judgement, "vulnerability").values())


def test_images_without_a_docker_daemon(tmp_path: Path) -> None:
    """An image that cannot be looked into is UNKNOWN, by its name."""
    target = {"ecosystem": "containers", "images": ["claims:1.0"], "advisories": [{"folder": str(DATA)}]}
    bench = Bench(tmp_path, target, docker="unix:///nowhere/docker.sock")
    judgement = bench.run()
    assert bench.verdict is Verdict.UNKNOWN
    assert any("claims" in f.subject for f in unknown(judgement))


def test_one_manifest_name_in_two_folders(tmp_path: Path) -> None:
    """Manifests of the same name in different folders are told apart, and a glob finds them all."""
    for folder, pin in (("web", "requests==2.19.0"), ("worker", "urllib3==1.24.1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "requirements.txt").write_text(f"{pin}\nunpinned\n")
    target = {"manifests": [f"{tmp_path}/*/requirements.txt"], "advisories": [{"folder": str(DATA)}]}
    bench = Bench(tmp_path, target)
    judgement = bench.run()
    assert {p.where for p in bench.audited.listed.packages} == {"web/requirements.txt:1", "worker/requirements.txt:1"}
    assert set(of(judgement, "unlisted")) == {"web/requirements.txt", "worker/requirements.txt"}


def test_a_glob_passes_nothing_without_a_word() -> None:
    """A folder on its way that cannot be searched is named; what an update has left beside a manifest is none."""
    if os.geteuid():
        pytest.skip("needs another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("web", "worker", "worker/deep"):
            (folder / part).mkdir()
            (folder / part / "requirements.txt").write_text("six==1.16.0\n")
        (folder / "web" / "requirements.txt.20261121T030000Z.before").write_text("requests==2.19.0\n")
        folder.chmod(0o755)
        (folder / "worker").chmod(0o700)
        os.seteuid(65534)
        try:
            for pattern in ("*/requirements.txt*", "**/requirements.txt", "w*/*.txt"):
                target = DependenciesTarget.model_validate({"id": "a/b", "manifests": [f"{folder}/{pattern}"]})
                found = listed(target, Limits(), lambda _: "")
                assert {p.name for p in found.packages} == {"six"}
                assert [f"{folder}/worker" in one.reason for one in found.unlisted] == [True]
        finally:
            os.seteuid(0)
