"""Where Airflow's connections and folders become the tools that routines and the ledger use."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upkeep.core.catalogue import Catalogue
from upkeep.core.errors import ConfigurationError, UnsafeError
from upkeep.core.job import History, Tools
from upkeep.ledger.events import RunKey
from upkeep.ledger.spool import Spool
from upkeep.ledger.store import Ledger

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from upkeep.core.routine import Routine
    from upkeep.core.targets import Target

LEDGER_CONN_ID = "upkeep_ledger"


def connection(conn_id: str) -> Connection:
    """Return an Airflow connection.

    :raises ConfigurationError: there is none of that id.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

    try:
        return BaseHook.get_connection(conn_id)
    except (AirflowException, AirflowRuntimeError) as error:
        raise ConfigurationError(
            f"connection {conn_id!r} is not defined in Airflow",
            f"create it under Admin > Connections, with `airflow connections add {conn_id}`, or as"
            f" AIRFLOW_CONN_{conn_id.upper()}",
        ) from error


def conninfo(conn_id: str) -> str:
    """Return the libpq connection string of a PostgreSQL connection.

    :raises ConfigurationError: there is no such connection, or it is not one to PostgreSQL.
    """
    from psycopg.conninfo import make_conninfo

    found = connection(conn_id)
    if found.conn_type not in ("postgres", "postgresql"):
        raise ConfigurationError(
            f"connection {conn_id!r} is of type {found.conn_type!r}, expected postgres", "correct the connection"
        )
    libpq = {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "options", "target_session_attrs", "service"}
    extra = {key: value for key, value in found.extra_dejson.items() if key in libpq}
    values = {
        "host": found.host,
        "port": found.port,
        "user": found.login,
        "password": found.password,
        "dbname": found.schema,
        **extra,
    }
    return make_conninfo(**{key: str(value) for key, value in values.items() if value})


def docker_address(conn_id: str) -> str:
    """Return the address of a Docker daemon: `host` of a connection of type docker, an address or a socket's path.

    Airflow's own DockerHook takes a registry from there; of a registry nothing here has need.

    :raises ConfigurationError: there is no such connection, or it is not one to Docker.
    """
    from upkeep.adapters.docker_engine import LOCAL

    if not conn_id:
        return LOCAL
    found = connection(conn_id)
    if found.conn_type != "docker":
        raise ConfigurationError(
            f"connection {conn_id!r} is of type {found.conn_type!r}, expected docker", "correct the connection"
        )
    host = found.host or LOCAL
    if host.startswith("/"):
        return f"unix://{host}"
    return host if "://" in host else f"tcp://{host}:{found.port or 2375}"


def home() -> Path:
    """Return the folder for what must survive a restart of a worker (`UPKEEP_HOME`, else below AIRFLOW_HOME)."""
    airflow_home = os.environ.get("AIRFLOW_HOME") or str(Path.home() / "airflow")
    return Path(os.environ.get("UPKEEP_HOME") or Path(airflow_home) / "upkeep")


def report_path(run: RunKey, suffix: str) -> Path:
    """Return where the report of a run lies as a file; every character of its id that is not plain is replaced."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in run.run_id)
    return home() / "reports" / run.dag_id / f"{name}.{suffix}"


def _redact(value: Any) -> Any:
    """Mask every secret that Airflow knows of: passwords of connections, sensitive variables."""
    from airflow.sdk._shared.secrets_masker.secrets_masker import redact

    # By itself it looks only five levels deep, and evidence may be deeper.
    return redact(value, max_depth=100)


@contextmanager
def open_ledger() -> Iterator[Ledger]:
    """Open the ledger of the connection `upkeep_ledger`; its spool lies in `UPKEEP_SPOOL_DIR` or `home()/spool`."""
    spool = Spool(Path(os.environ.get("UPKEEP_SPOOL_DIR") or home() / "spool"))
    ledger = Ledger(lambda: conninfo(LEDGER_CONN_ID), spool, redact=_redact)
    try:
        yield ledger
    finally:
        ledger.close()


def make_tools(history: History, catalogue: Catalogue, log: logging.Logger) -> Tools:
    """Return the outside world for one job."""
    from upkeep.adapters import (
        archive,
        audit,
        copy_maker,
        drift,
        http,
        log_review,
        models,
        object_store,
        outdated,
        physical,
        postgres,
        recovery,
        restore_test,
        rotation,
        scoring_data,
        sqlite,
        sqlite_work,
        tree_backup,
        updates,
        volume,
        workbench,
    )

    scratch = scratch_folder()
    return Tools(
        postgres=postgres.opener(conninfo),
        workbench=workbench.opener(conninfo),
        disk=volume.disk,
        sqlite=sqlite.opener,
        sqlite_work=sqlite_work.Workshop(home() / "sqlite"),
        http=http.opener(connection),
        archive=archive.make_archiver(conninfo, object_store.opener(connection), scratch),
        restorer=restore_test.Restorer(object_store.opener(connection), scratch, docker_address),
        physical=physical.make_physical(conninfo, object_store.opener(connection), scratch),
        copies=copy_maker.CopyMaker(connection, object_store.opener(connection), scratch),
        trees=tree_backup.make_trees(object_store.opener(connection), scratch),
        rotator=rotation.LogRotator(home() / "rotation"),
        recovery=recovery.make_recoverer(conninfo, object_store.opener(connection), scratch),
        drifts=drift.Drifts(scoring_data.ScoringData(conninfo, connection), scratch),
        auditor=audit.Auditor(http.opener(connection), docker_address, home() / "advisories"),
        outdated=outdated.make_lister(),
        updates=updates.Updates(),
        models=models.make_models(conninfo, connection, http.opener(connection), scratch),
        logs=log_review.Reader(home() / "logs"),
        history=history,
        catalogue=catalogue,
        now=now,
        log=log,
        scratch=scratch,
    )


def alone_on(
    routine: Routine, target: Target, dry_run: bool, until: datetime | None = None
) -> Callable[[], AbstractContextManager[Callable[[], None]]]:
    """Return what keeps other heavy work off a target while an exclusive routine works there, nothing for others.

    A backup that reads another server than the target's holds the lock there: that is where it is heavy.

    :param until: when the maintenance window closes: its turn would come too late after that.
    """
    from upkeep.adapters import target_lock
    from upkeep.core.targets import PostgresTarget

    patience = routine.exclusive
    if patience is None or dry_run or not isinstance(target, PostgresTarget):
        return lambda: nullcontext(lambda: None)
    own = target.backup_conn_id if routine.area == "backup" else target.maintenance_conn_id

    def hold() -> AbstractContextManager[Callable[[], None]]:
        left = patience if until is None else min(patience, max(until - now(), timedelta(0)))
        return target_lock.hold(
            conninfo(own or target.conn_id),
            database=target.database,
            application_name=f"upkeep {routine.name} lock",
            patience=left.total_seconds(),
        )

    return hold


def scratch_folder() -> Path:
    """Return the folder for large temporary files: `UPKEEP_SCRATCH_DIR`, else a private one in the temporary folder.

    :raises UnsafeError: it belongs to somebody else, who could read or change a backup on its way.
    """
    named = os.environ.get("UPKEEP_SCRATCH_DIR")
    path = Path(named) if named else Path(tempfile.gettempdir()) / f"upkeep-scratch-{os.getuid()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UnsafeError(
            f"scratch folder {path}: mode {stat.filemode(found.st_mode)}, owner {found.st_uid}; expected a folder that"
            f" only user {os.getuid()} can write to",
            "correct its owner and mode, or set UPKEEP_SCRATCH_DIR",
        )
    return path


def now() -> datetime:
    """Return the present moment, in UTC."""
    return datetime.now(UTC)
