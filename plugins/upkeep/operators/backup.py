"""Operators for backups and their proof."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class BackupOperator(RoutineOperator):
    """Back a PostgreSQL database up, with content fingerprints taken in the dump's own snapshot."""

    routine = "upkeep.routines.backup.postgres"


class BackupVerificationOperator(RoutineOperator):
    """Re-read stored backups, check every hash and decode them in full."""

    routine = "upkeep.routines.backup.verify"


class BackupCatalogueOperator(RoutineOperator):
    """Compare the catalogue of backups with the store, and put on record what only the store knows."""

    routine = "upkeep.routines.backup.catalogue"
