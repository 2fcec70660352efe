"""How the faults of the daily cadence are planted and taken away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from psycopg import sql

from lab.process import write_private
from lab.systems import system

if TYPE_CHECKING:
    from lab.embedded import Lab

SEQUENCE_USED = 0.92


def sequence_near_its_end(lab: Lab, planted: bool) -> None:
    """Move the sequence of claims_claim.id to 92 % of int4, or back to the last id."""
    with lab.connect("claims", as_owner=True) as owner:
        end = (
            "(2147483647 * %s::numeric)::bigint"
            if planted
            else "(SELECT max(id) FROM claims_claim) + (0 * %s::numeric)::bigint"
        )
        name = "pg_get_serial_sequence('claims_claim', 'id')"
        owner.execute(f"SELECT setval({name}, {end})", [SEQUENCE_USED])


def forgotten_transaction(lab: Lab, planted: bool) -> None:
    """Start or end the process that keeps the sessions open."""
    if planted:
        lab.keeper.start()
    else:
        lab.keeper.stop()


def missing_privilege(lab: Lab, planted: bool) -> None:
    """Take pg_monitor from molecular's maintenance role, or give it back."""
    molecular = system("molecular")
    verb = "REVOKE pg_monitor FROM {}" if planted else "GRANT pg_monitor TO {}"
    with lab.clusters[molecular.cluster].connect() as admin:
        admin.execute(sql.SQL(verb).format(sql.Identifier(molecular.keeper)))


def degraded_service(lab: Lab, planted: bool) -> None:
    """Let campus say that it is degraded."""
    wrong = {"status": "degraded", "mail": {"status": "down", "error": "ConnectionRefusedError"}}
    set_web_fault(lab, "campus", "/health/detailed", {"merge": wrong} if planted else None)


def slow_endpoint(lab: Lab, planted: bool) -> None:
    """Let student's notification health take its time."""
    set_web_fault(lab, "student", "/api/notifications/health", {"delay": 0.65} if planted else None)


def set_web_fault(lab: Lab, name: str, path: str, fault: dict[str, Any] | None) -> None:
    """Let a service behave otherwise at a path (or in its `log`) from now on, or as it should again (None)."""
    file = lab.web.faults_file
    known: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}
    known.setdefault(name, {}).pop(path, None)
    if fault is not None:
        known[name][path] = fault
    write_private(file, json.dumps(known))
