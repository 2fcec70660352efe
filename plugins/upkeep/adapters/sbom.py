"""The bill of materials of what was listed: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), by its own library.

The same packages give the same text: what would differ from run to run (serial number, time) is only in it when given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from upkeep.core.audit import Audited, Listed, Package, Rating, Vulnerability

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.vulnerability import Vulnerability as CdxVulnerability
    from packageurl import PackageURL

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"
_PLACES = 20
_SEVERITY = {Rating.CRITICAL: "critical", Rating.HIGH: "high", Rating.MEDIUM: "medium", Rating.LOW: "low"}


def cyclonedx(
    listed: Listed,
    audited: Audited | None = None,
    *,
    subject: str = "",
    serial: UUID | None = None,
    at: datetime | None = None,
) -> str:
    """Return the bill of materials as JSON.

    :param audited: what is known to be wrong with the packages, to stand beside them.
    :param subject: name of what the packages belong to (`claims/dependencies`).
    :raises ValueError: the library made something that is no CycloneDX.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    bom = Bom(components=list(_components(listed.packages)))
    bom.metadata.properties.update(_unlisted(listed))
    bom.metadata.properties.update(_unanswered(audited) if audited else ())
    bom.vulnerabilities.update(_vulnerabilities(audited.vulnerabilities if audited else ()))
    found = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    _relate(found, subject, listed)
    text = json.dumps(_dated(found, serial, at), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if wrong := complaint(text):
        raise ValueError(f"the bill of materials is no CycloneDX 1.6: {wrong}")
    return text


def complaint(text: str) -> str:
    """Return what the library's validator has against a bill of materials; empty when nothing."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return str(error)[:400] if error else ""


def purl(package: Package) -> PackageURL:
    """Return a package's URL (https://github.com/package-url/purl-spec), by which other tools know it."""
    from packageurl import PackageURL

    family, _, release = package.ecosystem.partition(":")
    name, version = package.name, package.version
    if family == "PyPI":
        return PackageURL("pypi", None, name, version)
    if family == "npm":
        scope, _, bare = name.rpartition("/")
        return PackageURL("npm", scope or None, bare, version)
    if family in ("Debian", "Ubuntu", "Alpine"):
        system = family.lower()
        distro = {"distro": f"{system}-{release.split(':')[0].removeprefix('v')}"} if release else None
        return PackageURL("apk" if family == "Alpine" else "deb", system, name, version, distro)
    return PackageURL("generic", None, name, version)


def _components(packages: Iterable[Package]) -> Iterable[Component]:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    places: dict[str, tuple[PackageURL, list[Package]]] = {}
    for package in packages:
        url = purl(package)
        places.setdefault(url.to_string(), (url, []))[1].append(package)
    for ref, (url, same) in sorted(places.items()):
        notes = {("upkeep:where", where) for where in sorted({one.where for one in same})[:_PLACES]}
        notes |= {("upkeep:source", f"{p.source_package} {p.source_version}") for p in same if p.source_package}
        if any(one.direct is not None for one in same):
            notes.add(("upkeep:direct", str(any(one.direct for one in same)).lower()))
        yield Component(
            name=url.name,
            group=url.namespace if url.type == "npm" else None,
            version=same[0].version,
            type=ComponentType.LIBRARY,
            bom_ref=ref,
            purl=url,
            properties=[Property(name=name, value=value) for name, value in sorted(notes)],
        )


def _relate(found: dict[str, Any], subject: str, listed: Listed) -> None:
    """Say what the packages belong to, and which of them it asks for itself.

    The library gives every component an entry without dependencies, which means that it has none, and warns in the
    worker's log of a subject without any. What a package needs is not known here: of that nothing is said.
    """
    found.pop("dependencies", None)
    if not subject:
        return
    ref = f"upkeep:{subject}"
    found.setdefault("metadata", {})["component"] = {"type": "application", "name": subject, "bom-ref": ref}
    if direct := sorted({purl(one).to_string() for one in listed.packages if one.direct}):
        found["dependencies"] = [{"ref": ref, "dependsOn": direct}]


def _unlisted(listed: Listed) -> Iterable[Any]:
    """Whoever reads the bill must see that it is not whole."""
    from cyclonedx.model import Property

    for one in listed.unlisted:
        yield Property(name="upkeep:unlisted", value=f"{one.where}: {one.reason}")


def _unanswered(audited: Audited) -> Iterable[Any]:
    """Nor may a bill without vulnerabilities look like one of which somebody has said that there are none."""
    from cyclonedx.model import Property

    yield Property(name="upkeep:verdict", value=audited.verdict.value)
    for one in audited.problems:
        yield Property(name="upkeep:problem", value=f"{one.where}: {one.reason}")
    if audited.unanswered:
        yield Property(name="upkeep:unanswered", value=f"{len(audited.unanswered)} packages")


def _vulnerabilities(known: Iterable[Vulnerability]) -> Iterable[CdxVulnerability]:
    groups: dict[str, list[Vulnerability]] = {}
    for one in known:
        groups.setdefault(one.id, []).append(one)
    for name, same in sorted(groups.items()):
        yield _vulnerability(name, same)


def _vulnerability(name: str, same: list[Vulnerability]) -> CdxVulnerability:
    from decimal import Decimal

    from cyclonedx.model.impact_analysis import ImpactAnalysisAffectedStatus
    from cyclonedx.model.vulnerability import (
        BomTarget,
        BomTargetVersionRange,
        VulnerabilityRating,
        VulnerabilityReference,
        VulnerabilitySeverity,
        VulnerabilitySource,
    )
    from cyclonedx.model.vulnerability import Vulnerability as CdxVulnerability

    first = same[0]
    source = VulnerabilitySource(name=first.source or "unknown")
    rating = VulnerabilityRating(
        source=VulnerabilitySource(name=first.rated_by) if first.rated_by else None,
        score=None if first.score is None else Decimal(str(first.score)),
        severity=VulnerabilitySeverity(_SEVERITY.get(first.rating, "unknown")),
    )
    affected = {(purl(one.package).to_string(), one.package.version) for one in same}
    cures = sorted({f"{one.package.name}: {one.fixed}" for one in same if one.fixed})
    return CdxVulnerability(
        bom_ref=f"upkeep:{name}",
        id=name,
        source=source,
        ratings=[rating],
        description=first.summary or None,
        recommendation=f"update to {', '.join(cures)}" if cures else None,
        references=[VulnerabilityReference(id=alias, source=source) for alias in sorted(set(first.aliases) - {name})],
        affects=[
            BomTarget(
                ref=ref,
                versions=[BomTargetVersionRange(version=version, status=ImpactAnalysisAffectedStatus.AFFECTED)],
            )
            for ref, version in sorted(affected)
        ],
    )


def _dated(found: dict[str, Any], serial: UUID | None, at: datetime | None) -> dict[str, Any]:
    """Put in, or leave out, what differs from run to run."""
    found.pop("serialNumber", None)
    found.get("metadata", {}).pop("timestamp", None)
    if serial is not None:
        found["serialNumber"] = serial.urn
    if at is not None:
        found.setdefault("metadata", {})["timestamp"] = at.isoformat()
    return found
