"""Our lookup against pip-audit's, on the same pins and the same advisories: `python -m bench.audit`.

The advisories of the tests and, beside them, `BENCH_ADVISORIES` (5,000) made-up ones on other packages, as a mirror
holds them: one small file each. The pins are the four known vulnerable ones and the packages of this environment
without a known vulnerability. Ours looks them up in the folder (first compiling it, then from the index) and over a
loopback service that speaks OSV's API; pip-audit does so over that service. Printed: packages, findings, seconds, and
whether the findings are the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration.advisory_server import DATA, serve
from upkeep.adapters import http
from upkeep.adapters.advisories import World, audit
from upkeep.adapters.audit_cross import cross_check
from upkeep.adapters.packages_python import read_environment
from upkeep.core.audit import Audited, Limits, Listed, Package
from upkeep.core.dependencies import AdvisorySource

ADVISORIES = int(os.environ.get("BENCH_ADVISORIES", "5000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
PINS = {"django": "3.2.0", "requests": "2.19.0", "pillow": "8.0.0", "urllib3": "1.24.1"}


def mirror(folder: Path) -> None:
    """Write the advisories."""
    shutil.copytree(DATA, folder)
    for number in range(ADVISORIES):
        name = f"PYSEC-1999-{number + 1}"
        events = [{"introduced": "0"}, {"fixed": f"1.{number % 50}"}]
        document = {
            "id": name,
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "aliases": [f"CVE-1999-{number + 1}"],
            "affected": [
                {
                    "package": {"ecosystem": "PyPI", "name": f"package-{number // 3}"},
                    "ranges": [{"type": "ECOSYSTEM", "events": events}],
                    "versions": [f"0.{n}" for n in range(60)],
                }
            ],
        }
        place = folder / f"{number % 50:02}"
        place.mkdir(exist_ok=True)
        (place / f"{name}.json").write_text(json.dumps(document, indent=1))


def timed[T](work: Callable[[], T], rounds: int = ROUNDS) -> tuple[float, T]:
    """Return the best time of some rounds, and what came of the last."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        made = work()
        best = min(best, time.perf_counter() - began)
    return best, made


def names(audited: Audited) -> list[tuple[str, str]]:
    """Return what was found, in a fixed order."""
    return sorted((v.package.name, v.id) for v in audited.vulnerabilities)


def main() -> None:
    """Measure and print."""
    here = [p for p in read_environment(Path(sys.executable)).packages if p.name not in PINS]
    pins = [Package(ecosystem="PyPI", name=n, version=v, where="requirements.txt") for n, v in PINS.items()]
    listed = Listed(packages=tuple({p.name: p for p in [*here, *pins]}.values()))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "mirror")
        mirror(folder)
        world = World(
            http.opener(lambda _: None),  # type: ignore[arg-type,return-value]
            Path(scratch, "indexes"),
            Limits(content_age_days=36500),
            datetime.now(UTC),
        )
        by_folder = [AdvisorySource(folder=str(folder))]
        rows: list[tuple[str, float, Any]] = []
        rows.append(("ours, folder, first time (compiles it)", *timed(lambda: audit(listed, by_folder, world), 1)))
        rows.append(("ours, folder, from the index", *timed(lambda: audit(listed, by_folder, world))))
        with serve(folder) as service:
            by_service = [AdvisorySource(url=service.url)]
            rows.append(("ours, service", *timed(lambda: audit(listed, by_service, world))))
            found = rows[-1][2]
            seconds, crossed = timed(lambda: cross_check(found, by_service, 600), 1)
        print(f"{len(listed.packages)} packages, {ADVISORIES + len(list(DATA.glob('*.json')))} advisories")
        print(f"{'way':42}{'findings':>9}{'seconds':>10}")
        for title, took, audited in rows:
            print(f"{title:42}{len(audited.vulnerabilities):>9}{took:>10.3f}")
        same = crossed is not None and not crossed.differences and not crossed.failed
        print(f"{'pip-audit, service':42}{'same' if same else str(crossed):>9}{seconds:>10.3f}")
        print(f"ratio to pip-audit: folder {rows[1][1] / seconds:.4f}, service {rows[2][1] / seconds:.4f}")
        if not same or names(rows[0][2]) != names(rows[2][2]):
            sys.exit("the findings differ")


if __name__ == "__main__":
    main()
