"""Airflow connections of the lab, as environment variables."""

from __future__ import annotations

import base64
import json
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.object_store import REGION
from lab.process import write_private
from lab.systems import PLATFORM, SYSTEMS

if TYPE_CHECKING:
    from lab.embedded import Lab
    from lab.postgres import PostgresServer

_HOST = "127.0.0.1"


def environment(lab: Lab) -> dict[str, str]:
    """Return every variable that Airflow needs to work on the lab."""
    variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(given) for name, given in connections(lab).items()}
    platform = lab.clusters["platform"]
    metadata = platform.dsn("airflow", PLATFORM["airflow"]).replace("postgresql://", "postgresql+psycopg2://")
    places = {
        "UPKEEP_LAB_HOME": str(lab.home),
        "UPKEEP_LAB_CODE": str(Path(__file__).resolve().parent.parent),
        "UPKEEP_SYSTEMS_DIR": str(lab.system_files),
        "UPKEEP_SPOOL_DIR": str(lab.spool),
        "UPKEEP_REDIS_BIN": str(Path(lab.caches["claims"].command()[0]).parent),
    }
    # What is the newest version of a package is the lab's to say, and not the Internet's.
    index = f"http://{_HOST}:{lab.web.ports['index']}"
    places |= {"UV_DEFAULT_INDEX": f"{index}/simple", "npm_config_registry": f"{index}/npm"}
    return {**places, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata, **variables}


def shell_lines(variables: dict[str, str]) -> str:
    """Return lines that a shell can source."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def connections(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return the connections by id, in the form that Airflow reads as JSON."""
    found = {"upkeep_ledger": _postgres(lab.clusters["platform"], "upkeep_ledger", PLATFORM["upkeep_ledger"])}
    for one in SYSTEMS:
        found[f"{one.name}_db"] = _postgres(lab.clusters[one.cluster], one.database, one.keeper)
        found[f"{one.name}_maintenance"] = _postgres(lab.clusters[one.cluster], one.database, one.carer)
        # Whoever restores makes and renames databases, and owners of what is in them must be as they were.
        found[f"{one.name}_restore"] = _postgres(lab.clusters[one.cluster], one.database, "postgres")
        if one.copied:
            found[f"{one.name}_physical"] = _postgres(lab.clusters[one.cluster], one.database, one.copier)
        found[f"{one.name}_web"] = _http(lab.web.ports[one.name])
        if one.redis:
            cache = lab.caches[one.name]
            redis = {"conn_type": "redis", "host": _HOST, "port": cache.port, "password": cache.password}
            found[f"{one.name}_redis"] = {**redis, "extra": {"db": 0}}
    found["upkeep_store"] = _store(lab)
    found["upkeep_backup_key"] = _backup_key(lab)
    found["upkeep_webhook"] = _http(lab.mail.ports["hook"])
    quiet = {"disable_ssl": True, "disable_tls": True, "from_email": "upkeep@lab.example"}
    found["upkeep_smtp"] = {"conn_type": "smtp", "host": _HOST, "port": lab.mail.port, "extra": quiet}
    return found


def _postgres(server: PostgresServer, database: str, user: str) -> dict[str, Any]:
    given = {"conn_type": "postgres", "host": _HOST, "port": server.port, "schema": database}
    return {**given, "login": user, "password": server.password(user)}


def _http(port: int) -> dict[str, Any]:
    return {"conn_type": "http", "host": _HOST, "port": port, "schema": "http"}


def _store(lab: Lab) -> dict[str, Any]:
    store = lab.object_store
    extra = {
        "endpoint_url": store.endpoint_url,
        "region_name": REGION,
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }
    return {"conn_type": "aws", "login": store.access_key, "password": store.secret_key, "extra": extra}


def _backup_key(lab: Lab) -> dict[str, Any]:
    """Return the key of the encrypted backups, which is made once: without it they are worth nothing."""
    path = lab.home / "backup-key.json"
    if not path.exists():
        write_private(path, json.dumps({"keys": {"lab-1": base64.b64encode(secrets.token_bytes(32)).decode()}}))
    extra = json.loads(path.read_text())
    return {"conn_type": "generic", "login": max(extra["keys"]), "extra": extra}
