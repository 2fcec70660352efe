"""Operators for backups and their proof."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator

# The kinds of targets that have backups.
BACKED_UP = ("postgres", "files", "sqlite", "redis", "model")


class BackupOperator(RoutineOperator):
    """Back a PostgreSQL database up, with content fingerprints taken in the dump's own snapshot."""

    routine = "upkeep.routines.backup.postgres"


class BackupVerificationOperator(RoutineOperator):
    """Re-read stored backups, check every hash and decode them in full."""

    routine = "upkeep.routines.backup.verify"


class BackupCatalogueOperator(RoutineOperator):
    """Compare the catalogue of backups with the store, and put on record what only the store knows."""

    routine = "upkeep.routines.backup.catalogue"


class SqliteBackupOperator(RoutineOperator):
    """Back a SQLite database up into the store, while programs use it, with a fingerprint of every table."""

    routine = "upkeep.routines.backup.sqlite"


class RedisBackupOperator(RoutineOperator):
    """Back a Redis server's data up into the store, as it would send them to a replica."""

    routine = "upkeep.routines.backup.redis"


class PhysicalBackupOperator(RoutineOperator):
    """Copy a whole PostgreSQL cluster with the WAL it needs, full or incremental, so that it can be started anew."""

    routine = "upkeep.routines.backup.physical"


class FileBackupOperator(RoutineOperator):
    """Back files up to every place that the target names; each content is stored once."""

    routine = "upkeep.routines.backup.files"


class RetentionOperator(RoutineOperator):
    """Remove the backups that the system's retention does not want any more, when that is safe."""

    routine = "upkeep.routines.backup.retention"


class RestoreTestOperator(RoutineOperator):
    """Restore a backup into a scratch server and prove that it is identical to its source."""

    routine = "upkeep.routines.backup.restore_test"
