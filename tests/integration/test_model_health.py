"""Model health on real files, with a real registry service on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.integration.model_health_bench import FEATURES, Care, make, write
from tests.integration.test_services_health import Page, serve
from upkeep.adapters.model_files_metadata import understood
from upkeep.core.model import Severity
from upkeep.core.model_health import ModelVersion


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return make(tmp_path)


def say(care: Care, **changes: Any) -> None:
    """Change what the metadata say."""
    path = care.folder / "model_metadata.json"
    said = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))


def test_a_healthy_model_gives_no_trouble(care: Care):
    """Files, metadata and hash are right and the model loads: nothing to tell, twice."""
    for _ in range(2):
        result = care.run("health")
        assert (result.state, result.findings) == ("success", ())
    assert result.measurements["files.count", ""] == 2
    assert result.measurements["model.age", ""] == pytest.approx(20.25)
    assert result.measurements["metadata.metric", "f1"] == 0.96


def test_missing_files(care: Care):
    """A glob without a file, or no folder at all, is critical."""
    (care.folder / "model.pkl").unlink()
    assert care.run("health", load=False).found("files").severity is Severity.CRITICAL
    shutil.rmtree(care.folder)
    result = care.run("health")
    assert {f.severity for f in result.findings if f.check == "files"} == {Severity.CRITICAL}


@pytest.mark.parametrize("text", [None, "", "[]", "{", "\xff\xfe", "[" * 100_000])
def test_metadata_missing_or_unreadable(care: Care, text: str | None):
    """Without metadata retraining may be needed; a pickle that nobody vouches for is then not loaded."""
    path = care.folder / "model_metadata.json"
    path.unlink() if text is None else path.write_bytes(text.encode("latin-1"))
    result = care.run("health")
    found = result.found("metadata")
    assert found.severity is Severity.WARNING and "retraining may be needed" in found.message
    assert result.found("trust").severity is Severity.UNKNOWN


def test_a_changed_file_is_not_loaded(care: Care, tmp_path: Path):
    """A file that metadata do not speak of is critical and is never loaded, however hostile."""
    mark = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark}",)

    care.run("health")
    (care.folder / "model.pkl").write_bytes(pickle.dumps(Hostile()))
    result = care.run("health")
    assert result.found("hash").severity is Severity.CRITICAL
    assert result.found("trust").severity is Severity.UNKNOWN
    assert [f.check for f in result.troubles] == ["hash", "trust"]
    assert "who changed it" in result.found("trust").hint  # nobody is asked to vouch for it
    proposed = care.run("versions").did
    assert proposed == {"copy": "done"}, "nobody is asked to trust what metadata contradict"
    assert not [f for f in result.findings if f.check == "load"] and not mark.exists()
    # Even with metadata that vouch for it nothing runs, and it is told what it asks for.
    say(care, sha256=hashlib.sha256((care.folder / "model.pkl").read_bytes()).hexdigest())
    result = care.run("health")
    found = result.found("load")
    assert found.severity is Severity.CRITICAL and "posix.system" in found.message
    assert not mark.exists()


def test_a_change_that_nothing_announces_stays_a_finding(care: Care):
    """It is a warning at every run until the new hash is known; a change that metadata announce is none."""
    say(care, sha256=None)
    care.run("health")
    old = (care.folder / "model.pkl").read_bytes()
    (care.folder / "model.pkl").write_bytes(old + b" ")
    for _ in range(2):
        found = care.run("health").found("changed")
        assert found.severity is Severity.WARNING and "no dated copy" in found.message
    write(care.folder, seed=2)
    assert care.run("health").troubles == []


def test_an_approved_copy_vouches_for_a_hash(care: Care):
    """Without a stated hash the file is loaded when a person has approved a copy with this hash, and only then."""
    say(care, sha256=None)
    assert care.run("health").found("trust").severity is Severity.UNKNOWN
    sha = hashlib.sha256((care.folder / "model.pkl").read_bytes()).hexdigest()
    for by, checks in (("", ["trust"]), ("a person", [])):
        name = f"20261101T00000{int(bool(by))}Z-{sha[:12]}"
        copy = care.folder / "versions" / name
        copy.mkdir(parents=True)
        shutil.copy(care.folder / "model.pkl", copy)
        version = ModelVersion(name=name, made=care.now, files={"model.pkl": sha}, size=1, approved=by)
        (copy / "manifest.json").write_text(version.model_dump_json())
        assert [f.check for f in care.run("health").troubles] == checks


def test_links_are_not_followed(care: Care, tmp_path: Path):
    """A link instead of a model file is not read: unknown, with the way out."""
    elsewhere = shutil.move(care.folder / "model.pkl", tmp_path / "elsewhere.pkl")
    (care.folder / "model.pkl").symlink_to(elsewhere)
    found = care.run("health", load=False).found("files")
    assert found.severity is Severity.UNKNOWN and "symbolic link" in found.message


def test_other_trouble_of_files(care: Care):
    """JSON that is none is critical; a file that is no pickle does not load; a library that is away is unknown."""
    (care.folder / "weights.json").write_text("{")
    assert care.run("health").found("load").severity is Severity.CRITICAL
    (care.folder / "weights.json").unlink()
    path = care.folder / "model.pkl"
    for data, severity in ((b"not a pickle", "critical"), (b"cpandas\nDataFrame\n.", "unknown")):
        path.write_bytes(data)
        say(care, sha256=hashlib.sha256(data).hexdigest())
        assert care.run("health").found("load").severity == severity


def test_features_that_differ(care: Care):
    """Metadata and system file must name the same features."""
    care.target["features"] = FEATURES
    assert care.run("health", load=False).findings == ()
    say(care, features=["clicks", "score", "age"])
    assert care.run("health", load=False).found("features").severity is Severity.WARNING


def versions(*numbers: str, **more: Any) -> Page:
    said = [{"name": "risk", "version": number, **more} for number in numbers]
    return Page(json.dumps({"model_versions": said}).encode())


LATEST = "/api/2.0/mlflow/registered-models/get-latest-versions?name=risk"
WRONG = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("page", "check", "severity"),
    [
        (versions("1"), None, None),
        (versions("9", "10"), "registry", "warning"),
        (versions("1", tags=[{"key": "sha256", "value": WRONG}]), "hash", "critical"),
        (versions(), "registry", "warning"),
        (Page(b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', 404), "registry", "warning"),
        (Page(b"<html>", 502), "registry", "unknown"),
        (Page(b'{"error_code": "PERMISSION_DENIED"}', 403), "registry", "unknown"),
        (Page(b'{"model_versions": [{"version": null}, 3]}'), "registry", "unknown"),
        (Page(b"[]"), "registry", "unknown"),
        (None, "registry", "unknown"),
    ],
)
def test_the_registry(care: Care, page: Page | None, check: str | None, severity: str | None):
    """The registry's newest version must be the metadata's; away or garbage is unknown."""
    care.target["registry"] = {"conn_id": "mlflow", "name": "risk"}
    with serve({LATEST: page} if page else {}) as service:
        host, _, port = service.url.removeprefix("http://").partition(":")
    # Closed by now: nobody answers there.
    if page is None:
        care.connections["mlflow"] = connection(host, int(port))
        found = care.run("health", load=False).troubles
    else:
        with serve({LATEST: page}) as service:
            care.connections["mlflow"] = connection("127.0.0.1", int(service.url.rpartition(":")[2]))
            found = care.run("health", load=False).troubles
    assert [(f.check, f.severity) for f in found] == ([(check, severity)] if check else [])


def test_an_alias_and_a_hash_in_the_registry(care: Care):
    """What is no stage is an alias; the registry's hash vouches for a file as the metadata's does."""
    sha = hashlib.sha256((care.folder / "model.pkl").read_bytes()).hexdigest()
    say(care, sha256=None)
    care.target["registry"] = {"conn_id": "mlflow", "name": "risk", "stage": "champion"}
    said = {"model_version": {"name": "risk", "version": "1", "tags": [{"key": "sha256", "value": sha}]}}
    page = Page(json.dumps(said).encode())
    with serve({"/api/2.0/mlflow/registered-models/alias?name=risk&alias=champion": page}) as service:
        care.connections["mlflow"] = connection("127.0.0.1", int(service.url.rpartition(":")[2]))
        assert care.run("health").findings == ()


def connection(host: str, port: int) -> Any:
    return SimpleNamespace(
        conn_id="mlflow", conn_type="http", host=host, port=port, schema="http", login="", password="", extra_dejson={}
    )


def test_metadata_as_the_student_guide_writes_it():
    """The guide's own names: binary_accuracy, multi_f1_score, training_date, feature_count."""
    said = understood(
        b'{"binary_accuracy": 0.87, "multi_f1_score": 0.8, "training_date": "2026-01-02 03:04:05", "feature_count": 22,'
        b' "hashes": {"a.pkl": "' + b"AB" * 32 + b'"}, "random_state": 42}',
        "m.json",
    )
    assert said.metrics == {"binary_accuracy": 0.87, "multi_f1_score": 0.8}
    assert (said.trained and said.trained.isoformat(), said.feature_count) == ("2026-01-02T03:04:05+00:00", 22)
    assert said.hash_of("a.pkl") == "ab" * 32
