"""A mirror of security advisories in the OSV format, as a site keeps one for machines that may not ask the Internet."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("advisories.yaml")
_RANGES = {"PyPI": "ECOSYSTEM", "npm": "SEMVER"}
_WEB = {"PYSEC": "https://osv.dev/vulnerability/{id}", "GHSA": "https://github.com/advisories/{id}"}


def write_advisories(folder: Path, now: datetime) -> None:
    """Write one file an advisory as if it had been fetched just now; a mirror that nobody renews says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in yaml.safe_load(_FILE.read_text()):
        written = folder / entry["ecosystem"] / f"{entry['id']}.json"
        written.parent.mkdir(exist_ok=True)
        fresh = written.with_suffix(".new")
        fresh.write_text(json.dumps(osv(entry, now), indent=1) + "\n")
        fresh.replace(written)


def osv(entry: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return an entry of advisories.yaml as an OSV record (https://ossf.github.io/osv-schema/)."""
    ecosystem, name = entry["ecosystem"], entry["package"]
    events = [event for brought, fixed in entry["ranges"] for event in ({"introduced": brought}, {"fixed": fixed})]
    record: dict[str, Any] = {
        "schema_version": "1.6.0",
        "id": entry["id"],
        "modified": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "published": _moment(entry["published"]),
        "aliases": entry["aliases"],
        "summary": entry["summary"],
        "details": entry["summary"] + ".",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": name, "purl": f"pkg:{ecosystem.lower()}/{name}"},
                "ranges": [{"type": _RANGES[ecosystem], "events": events}],
            }
        ],
        "references": [{"type": "ADVISORY", "url": _WEB[entry["id"].partition("-")[0]].format(id=entry["id"])}],
    }
    if "cvss" in entry:
        record["severity"] = [{"type": "CVSS_V3", "score": entry["cvss"]}]
    if "severity" in entry:
        record["database_specific"] = {"severity": entry["severity"]}
    if "withdrawn" in entry:
        record["withdrawn"] = _moment(entry["withdrawn"])
    return record


def _moment(day: date) -> str:
    return f"{day:%Y-%m-%d}T00:00:00Z"
