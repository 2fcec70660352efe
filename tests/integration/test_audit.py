"""The dependency audit on known vulnerable pins: a folder of advisories, a service, and pip-audit beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.advisory_server import DATA, serve
from tests.integration.audit_bench import PINS, Bench, of, pins, unknown
from upkeep.adapters.audit_cross import cross_check
from upkeep.core.audit import Rating, Verdict
from upkeep.core.dependencies import AdvisorySource
from upkeep.core.model import Severity

FOLDER = {"folder": str(DATA), "max_age_days": 36500}
# Read from the advisories by hand: what applies to the four pins, one name for each vulnerability.
EXPECTED = {"django": 10, "requests": 2, "pillow": 11, "urllib3": 6}


def names(bench: Bench) -> set[tuple[str, frozenset[str]]]:
    return {(v.package.name, frozenset(v.names)) for v in bench.audited.vulnerabilities}


def test_folder_and_service_find_the_same(tmp_path: Path) -> None:
    """A folder of OSV files and a service over the same files give the same vulnerabilities and the same fixes."""
    by_folder = pins(tmp_path / "a", [FOLDER])
    by_folder.run()
    with serve() as service:
        by_service = pins(tmp_path / "b", [{"url": service.url}])
        by_service.run()
    assert by_folder.verdict is by_service.verdict is Verdict.VULNERABLE
    assert names(by_folder) == names(by_service)
    fixes = [{(v.id, v.fixed, v.rating) for v in b.audited.vulnerabilities} for b in (by_folder, by_service)]
    assert fixes[0] == fixes[1]
    found = [v.package.name for v in by_folder.audited.vulnerabilities]
    assert {name: found.count(name) for name in EXPECTED} == EXPECTED


def test_the_same_findings_as_pip_audit(tmp_path: Path) -> None:
    """pip-audit, asked over the same service, finds exactly what we find; a planted difference is told."""
    with serve() as service:
        source = {"url": service.url}
        bench = pins(tmp_path, [source])
        judgement = bench.run(cross_check=True)
        assert bench.seen.crossed is not None
        assert bench.seen.crossed.failed == ""
        assert bench.seen.crossed.differences == ()
        assert "cross_check" not in {f.check for f in judgement.findings}
        fewer = bench.audited.model_copy(update={"vulnerabilities": bench.audited.vulnerabilities[1:]})
        again = cross_check(fewer, [AdvisorySource(**source)], 60)
    assert again is not None
    missing = bench.audited.vulnerabilities[0]
    assert missing.package.name == "django"
    assert again.differences == (f"django 3.2: only it finds {missing.id}",)


def test_pip_audit_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    """A cross-check that was asked for and cannot be done is a finding, with a service away and with none at all."""
    with serve() as service:
        bench = pins(tmp_path, [FOLDER, {"url": service.url}])
        service.faults.status["/v1/query"] = 500
        found = of(bench.run(cross_check=True, source_seconds=20), "cross_check")["pip-audit"]
    assert found.severity is Severity.UNKNOWN
    found = of(pins(tmp_path, [FOLDER]).run(cross_check=True), "cross_check")["pip-audit"]
    assert "no source is a service" in found.message


def test_npm_lock(tmp_path: Path) -> None:
    """lodash 4.17.11 and minimist 0.0.8 of a package-lock.json are found, with their fixes."""
    packages = {
        "": {"dependencies": {"lodash": "4.17.11"}},
        "node_modules/lodash": {"version": "4.17.11"},
        "node_modules/minimist": {"version": "0.0.8"},
    }
    lock = tmp_path / "package-lock.json"
    lock.write_text(json.dumps({"name": "x", "lockfileVersion": 3, "packages": packages}))
    bench = Bench(tmp_path, {"ecosystem": "npm", "manifests": [str(lock)], "advisories": [FOLDER]})
    bench.run()
    fixed = {v.id: v.fixed for v in bench.audited.vulnerabilities}
    assert fixed == {
        "CVE-2019-10744": "4.17.12",
        "CVE-2020-8203": "4.17.20",
        "CVE-2021-23337": "4.17.21",
        "CVE-2021-44906": "0.2.4",
        "CVE-2020-7598": "0.2.1",
    }


def test_one_row_tells_everything(tmp_path: Path) -> None:
    """A finding names package, version, advisory, aliases, severity with its source, fix, place and due date."""
    bench = pins(tmp_path, [FOLDER])
    found = of(bench.run(), "vulnerability")
    row = found["pillow CVE-2022-22817"]
    assert row.severity is Severity.CRITICAL
    for part in (
        "pillow 8.0.0: Arbitrary expression injection in Pillow (CVE-2022-22817, GHSA-8vj2-vxx3-667w, PYSEC-2022-10)",
        "new; critical by GHSA-8vj2-vxx3-667w",
        "fixed in 9.0.1",
        "in requirements.txt:3",
    ):
        assert part in row.message
    assert row.observed == "critical 9.8"
    assert row.limit == f"due {bench.now + timedelta(days=7):%Y-%m-%d}"
    # The worst of what two databases say, with its source.
    assert "high by PYSEC-2023-192" in found["urllib3 CVE-2023-43804"].message
    # No source rates it: treated as high, and said.
    unrated = found["django CVE-2021-35042"]
    assert unrated.severity is Severity.CRITICAL
    assert "no source rates it, treated as high" in unrated.message


def test_only_what_is_new_newly_fixable_or_overdue_pages(tmp_path: Path) -> None:
    """A week later the same vulnerabilities only inform; past its due date each pages again, by its severity."""
    mirror = tmp_path / "mirror"
    shutil.copytree(DATA, mirror)
    source = {"folder": str(mirror), "max_age_days": 36500}
    bench = pins(tmp_path, [source])
    first = of(bench.run(), "vulnerability")
    assert {f.severity for f in first.values()} == {Severity.CRITICAL, Severity.WARNING}
    # A retry within the hour must still page.
    assert of(bench.later(hours=1).run(), "vulnerability") == first
    known = of(bench.later(days=6).run(), "vulnerability")
    assert known.keys() == first.keys()
    assert {f.severity for f in known.values()} == {Severity.INFO}
    overdue = of(bench.later(days=2).run(), "vulnerability")
    late = {subject for subject, f in overdue.items() if f.severity is not Severity.INFO}
    assert late == {"django CVE-2022-28346", "pillow CVE-2022-22817"}
    assert "overdue" in overdue["pillow CVE-2022-22817"].message
    everything = of(bench.later(days=90).run(), "vulnerability")
    assert everything["requests CVE-2023-32681"].severity is Severity.WARNING  # medium, 90 days


def test_newly_fixable_pages_once(tmp_path: Path) -> None:
    """One that had no fix pages again on the day that a fix appears, and then is known once more."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    document = json.loads((DATA / "PYSEC-2022-10.json").read_text())
    document["affected"][0] |= {"ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}
    path = mirror / "one.json"
    path.write_text(json.dumps(document))
    bench = pins(tmp_path, [{"folder": str(mirror), "max_age_days": 36500}], "pillow==8.0.0\n")
    subject = "pillow CVE-2022-22817"
    assert "no fixed version yet" in of(bench.run(), "vulnerability")[subject].message
    assert of(bench.later(days=3).run(), "vulnerability")[subject].severity is Severity.INFO
    document["affected"][0]["ranges"][0]["events"].append({"fixed": "9.0.0"})
    path.write_text(json.dumps(document))
    fixable = of(bench.later(days=3).run(), "vulnerability")[subject]
    assert fixable.severity is Severity.CRITICAL
    assert "can be fixed since" in fixable.message
    assert of(bench.later(days=2).run(), "vulnerability")[subject].severity is Severity.INFO


def test_without_the_ledger_nobody_can_tell_what_is_new(tmp_path: Path) -> None:
    """While the ledger is away one finding says so; nothing pages by itself, and no first sighting is overwritten."""
    bench = pins(tmp_path, [FOLDER])
    bench.run()
    first = dict(bench.history.latest("vulnerability.first_seen"))
    bench.remembers, kept = False, bench.history
    bench.history = type(kept)()
    judgement = bench.later(days=30).run()
    assert {f.severity for f in of(judgement, "vulnerability").values()} == {Severity.INFO}
    assert of(judgement, "history")["ledger"].severity is Severity.UNKNOWN
    assert not bench.history.latest("vulnerability.first_seen")
    assert dict(kept.latest("vulnerability.first_seen")) == first


def test_ignores(tmp_path: Path) -> None:
    """What somebody answers for informs until its day; after it, it warns and counts again; one for nothing is told."""
    now = pins(tmp_path, [FOLDER]).now.date()
    owner = {"owner": "A. Turing", "reason": "the function is not used here"}
    ignores: list[dict[str, Any]] = [
        {"advisory": "GHSA-8vj2-vxx3-667w", "until": str(now + timedelta(days=5)), **owner},
        {"advisory": "CVE-2018-18074", "package": "requests", "until": str(now - timedelta(days=2)), **owner},
        {"advisory": "CVE-1999-0001", "until": str(now + timedelta(days=5)), **owner},
        {"advisory": "CVE-2021-33503", "package": "requests", "until": str(now + timedelta(days=5)), **owner},
    ]
    judgement = pins(tmp_path, [FOLDER], ignores=ignores).run()
    found, said = of(judgement, "vulnerability"), of(judgement, "ignore")
    assert found["pillow CVE-2022-22817"].severity is Severity.INFO
    assert "A. Turing answers for it until" in found["pillow CVE-2022-22817"].message
    assert found["requests CVE-2018-18074"].severity is Severity.CRITICAL
    assert said["requests CVE-2018-18074"].severity is Severity.WARNING
    assert said["CVE-1999-0001"].severity is said["requests CVE-2021-33503"].severity is Severity.INFO
    assert found["urllib3 CVE-2021-33503"].severity is Severity.CRITICAL
    assert len(said) == 3
    # One that was answered for again, and one that is written twice, are told of once.
    renewed = {**ignores[1], "until": str(now + timedelta(days=9))}
    judgement = pins(tmp_path, [FOLDER], ignores=[*ignores, ignores[2], renewed]).run()
    assert of(judgement, "vulnerability")["requests CVE-2018-18074"].severity is Severity.INFO
    assert set(of(judgement, "ignore")) == {"CVE-1999-0001", "requests CVE-2021-33503"}


def test_a_clean_target_gives_no_finding_of_note(tmp_path: Path) -> None:
    """Packages without a known vulnerability are CLEAN: nothing of warning or worse, and nothing unknown."""
    text = "django==4.2.16\nrequests==2.32.3\n"
    for number, source in enumerate((FOLDER, None)):
        with serve() as service:
            bench = pins(tmp_path / str(number), [source or {"url": service.url}], text)
            judgement = bench.run()
        assert bench.verdict is Verdict.CLEAN
        assert judgement.severity is Severity.INFO  # `open_ended`: the file has no hashes


def test_several_sources_make_one_answer(tmp_path: Path) -> None:
    """Two sources that know of the same vulnerability give one, with the worst severity and the highest fix."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, name in ((one, "PYSEC-2022-10"), (two, "GHSA-8vj2-vxx3-667w")):
        folder.mkdir()
        shutil.copy(DATA / f"{name}.json", folder)
    sources = [{"folder": str(folder), "max_age_days": 36500} for folder in (one, two)]
    bench = pins(tmp_path, sources, "pillow==8.0.0\n")
    bench.run()
    (only,) = bench.audited.vulnerabilities
    assert (only.id, only.fixed, only.rating, only.score) == ("CVE-2022-22817", "9.0.1", Rating.CRITICAL, 9.8)
    assert only.source == str(one)


def test_bill_of_materials(tmp_path: Path) -> None:
    """The bill is handed to the ledger when something changed, names every package, and stays away otherwise."""
    bench = pins(tmp_path, [FOLDER])
    bench.run()
    (outcome,) = bench.outcomes
    artefact = outcome.evidence["artefact"]
    assert hashlib.sha256(artefact["content"].encode()).hexdigest() == artefact["sha256"]
    bill = json.loads(artefact["content"])
    assert {c["name"] for c in bill["components"]} == set(EXPECTED)
    assert len({v["id"] for v in bill["vulnerabilities"]}) == sum(EXPECTED.values())
    bench.later(days=7).run()
    assert bench.outcomes == []
    (tmp_path / "requirements.txt").write_text(PINS.replace("8.0.0", "8.1.0"))
    bench.later(days=7).run()
    assert len(bench.outcomes) == 1


def test_packages_of_our_own(tmp_path: Path) -> None:
    """What a setting calls our own is not looked up, however its name is spelt; everything else is."""
    bench = pins(tmp_path, [FOLDER], "Claims_Core==1.0\ndjango==4.2.16\nrequests==2.19.0\n")
    bench.run(own=["claims.core", "Requests"])
    assert bench.verdict is Verdict.CLEAN
    bench.run(own=["claims.core"])
    assert {v.package.name for v in bench.audited.vulnerabilities} == {"requests"}


def test_no_source_named(tmp_path: Path) -> None:
    """A target without any source of advisories is UNKNOWN, with the cure."""
    bench = pins(tmp_path, [])
    judgement = bench.run()
    assert bench.verdict is Verdict.UNKNOWN
    assert any("advisories" in f.hint for f in unknown(judgement))
    assert pins(tmp_path, []).run(advisories=[FOLDER]).findings  # the routine's setting is the default
    with pytest.raises(Exception, match="exactly one"):
        pins(tmp_path, [{"url": "http://a", "folder": "b"}]).run()
