"""The bill of materials is CycloneDX 1.6, the same every time, and says where it is not whole."""

from __future__ import annotations

import json
import time
import warnings
from datetime import UTC, datetime
from uuid import UUID

import pytest

from upkeep.adapters.sbom import complaint, cyclonedx, purl
from upkeep.core.audit import Audited, Listed, Package, Rating, Unlisted, Verdict, Vulnerability


def package(ecosystem: str, name: str, version: str = "1.0", where: str = "x:1", **others: str | bool) -> Package:
    """Return a package."""
    return Package.model_validate({"ecosystem": ecosystem, "name": name, "version": version, "where": where, **others})


DJANGO = package("PyPI", "django", "3.2.0", direct=True)
LISTED = Listed(
    packages=(
        DJANGO,
        package("npm", "@scope/b", "1.2.3-beta.1+b", "package-lock.json:node_modules/\x1b<b>"),
        package("npm", "lodash", "4.17.11", "a"),
        package("npm", "lodash", "4.17.11", "b"),
        package("Debian:12", "libssl3", "1:3.0~rc1+dfsg-1", source_package="openssl", source_version="3.0"),
    ),
    unlisted=(Unlisted(where="r.txt:3", reason="an address", hint="pin it"),),
)
AUDITED = Audited(
    verdict=Verdict.VULNERABLE,
    listed=LISTED,
    vulnerabilities=(
        Vulnerability(package=DJANGO, id="CVE-2021-35042", aliases=("PYSEC-1",), rating=Rating.CRITICAL, score=9.8,
                      rated_by="CVSS:3.1/AV:N", fixed="3.2.5", summary="SQL injection <script>", source="osv"),
        Vulnerability(package=LISTED.packages[2], id="GHSA-x", source="osv"),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (package("PyPI", "zope-interface"), "pkg:pypi/zope-interface@1.0"),
        (package("npm", "@scope/b"), "pkg:npm/%40scope/b@1.0"),
        (package("Debian:12", "libssl3", "1:3.0~rc1+x"), "pkg:deb/debian/libssl3@1:3.0~rc1%2Bx?distro=debian-12"),
        (package("Ubuntu:24.04:LTS", "bash"), "pkg:deb/ubuntu/bash@1.0?distro=ubuntu-24.04"),
        (package("Alpine:v3.20", "musl"), "pkg:apk/alpine/musl@1.0?distro=alpine-3.20"),
    ],
)
def test_every_ecosystem_has_its_own_url(one: Package, expected: str) -> None:
    """As the purl specification writes them."""
    assert purl(one).to_string() == expected


def test_the_bill_is_valid_and_holds_everything() -> None:
    """Components once each with their places, what is wrong with them, and what could not be listed."""
    text = cyclonedx(LISTED, AUDITED, subject="claims/dependencies")
    bom = json.loads(text)
    assert complaint(text) == "" and bom["specVersion"] == "1.6"
    components = {c["purl"]: c for c in bom["components"]}
    assert len(components) == 4
    lodash = components["pkg:npm/lodash@4.17.11"]
    assert [p["value"] for p in lodash["properties"] if p["name"] == "upkeep:where"] == ["a", "b"]
    assert components["pkg:npm/%40scope/b@1.2.3-beta.1%2Bb"]["group"] == "@scope"
    assert bom["metadata"]["properties"] == [
        {"name": "upkeep:unlisted", "value": "r.txt:3: an address"},
        {"name": "upkeep:verdict", "value": "vulnerable"},
    ]
    django, other = sorted(bom["vulnerabilities"], key=lambda v: v["id"])
    assert (
        django["affects"][0]["ref"] == "pkg:pypi/django@3.2.0" and django["recommendation"] == "update to django: 3.2.5"
    )
    assert (django["ratings"][0]["severity"], django["ratings"][0]["score"]) == ("critical", 9.8)
    assert other["ratings"][0]["severity"] == "unknown"


def test_a_bill_tells_when_nobody_answered() -> None:
    """Without vulnerabilities, because the source was away: that stands in it."""
    away = Unlisted(where="osv", reason="no connection", hint="x")
    audited = Audited(verdict=Verdict.UNKNOWN, listed=LISTED, problems=(away,), unanswered=LISTED.packages)
    said = {p["name"]: p["value"] for p in json.loads(cyclonedx(LISTED, audited))["metadata"]["properties"]}
    assert said["upkeep:verdict"] == "unknown"
    assert (said["upkeep:problem"], said["upkeep:unanswered"]) == ("osv: no connection", "5 packages")


def test_the_same_packages_give_the_same_text() -> None:
    """In any order, at any time; serial number and time are there only when given."""
    text = cyclonedx(LISTED, AUDITED)
    time.sleep(0.01)
    turned = Listed(packages=LISTED.packages[::-1], unlisted=LISTED.unlisted)
    assert json.loads(cyclonedx(turned, AUDITED)) == json.loads(text)
    assert cyclonedx(LISTED, AUDITED) == text
    assert "serialNumber" not in text and "timestamp" not in text
    dated = json.loads(cyclonedx(LISTED, serial=UUID(int=7), at=datetime(2026, 1, 1, tzinfo=UTC)))
    assert dated["serialNumber"].endswith("-000000000007") and dated["metadata"]["timestamp"].startswith("2026-01-01T")


def test_only_what_is_known_of_dependencies_is_said() -> None:
    """The subject asks for what is direct; what packages need themselves is not known; and nobody is warned of that."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bom = json.loads(cyclonedx(LISTED, AUDITED, subject="claims/dependencies"))
        bare = json.loads(cyclonedx(LISTED))
    root = bom["metadata"]["component"]
    assert root["name"] == "claims/dependencies"
    assert bom["dependencies"] == [{"ref": root["bom-ref"], "dependsOn": ["pkg:pypi/django@3.2.0"]}]
    assert "dependencies" not in bare


def test_a_bill_of_nothing_and_a_wrong_one() -> None:
    """An empty bill is valid; the validator finds what is wrong with another."""
    assert complaint(cyclonedx(Listed())) == ""
    assert complaint('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}]}')
