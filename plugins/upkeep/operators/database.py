"""Operators for database care."""

from __future__ import annotations

from upkeep.operators.base import RoutineOperator


class DatabaseHealthOperator(RoutineOperator):
    """Look a PostgreSQL database over: sessions, locks, wraparound, sizes, replication, sequences."""

    routine = "upkeep.routines.database.health"


class SqliteHealthOperator(RoutineOperator):
    """Look a SQLite database file over: readable, unlocked, intact, quick."""

    routine = "upkeep.routines.database.sqlite_health"


class SlowQueriesOperator(RoutineOperator):
    """Find the statements of a PostgreSQL database that take long, with their plans."""

    routine = "upkeep.routines.database.slow_queries"


class IndexReviewOperator(RoutineOperator):
    """Review the indexes of a PostgreSQL database: invalid, duplicate, unused, missing, bloated."""

    routine = "upkeep.routines.database.index_review"


class SqliteCareOperator(RoutineOperator):
    """Care for a SQLite database: check it, copy it, keep its statistics fresh, give free space back."""

    routine = "upkeep.routines.database.sqlite_care"


class ReindexOperator(RoutineOperator):
    """Rebuild the bloated indexes of a PostgreSQL database without stopping anybody, and clear away broken builds."""

    routine = "upkeep.routines.database.reindex"


class VacuumOperator(RoutineOperator):
    """Vacuum and analyze the tables of a PostgreSQL database that need it, the worst first."""

    routine = "upkeep.routines.database.vacuum"


class AnalyzeOperator(RoutineOperator):
    """Analyze the tables of a PostgreSQL database whose statistics are missing or old."""

    routine = "upkeep.routines.database.analyze"


class SettingsReviewOperator(RoutineOperator):
    """Review the settings of a PostgreSQL server and its tables: autovacuum, memory, durability, pending restarts."""

    routine = "upkeep.routines.database.settings_review"
