"""Review the settings of a PostgreSQL server (14 to 18) and of the tables of one database. Read-only.

**What it does.** It reads settings, the configuration files where that is allowed, the settings of tables, roles and
databases, and the count of checkpoints, in one round trip. Nothing is changed: each finding carries the exact
statement, behind `undo:` the one that takes it back, and the page of the documentation that gives the reason.

**Why.** A server that somebody tuned for one import keeps autovacuum or fsync off for years; what waits for a restart
comes as a surprise in the next emergency; a table without autovacuum grows for ever.

**When it is red.** Nothing here is critical. Ask who changed it and why, then run the hint's statement as a superuser;
a managed service has its own page for settings, where ALTER SYSTEM is refused.

- `setting`: one setting of the server. A warning is what breaks or loses something (autovacuum, track_counts, fsync,
  full_page_writes, MD5 passwords ...) or differs from what the system states in `expected`.
- `pending_restart`: set, and not in effect before the next restart. `file`: a line the server cannot use.
- `autovacuum_disabled`, `autovacuum_late`: settings of a table that keep autovacuum away, or away too long.
- `override`: a role or database switches off what matters.
- `checkpoints`: most are forced by the volume of WAL; measured between two runs.
- `logging`: what one will look for in the log after trouble and not find.

What it cannot tell: the memory of the server (state it as `memory_gb`), what a session sets for itself, and without
superuser (or GRANT SELECT ON pg_file_settings and EXECUTE ON FUNCTION pg_show_all_file_settings()) errors in the files.
"""

from __future__ import annotations

from typing import Any

from upkeep.core.cadence import Covers
from upkeep.core.errors import TransientError
from upkeep.core.job import Failed, Job
from upkeep.core.model import Judgement
from upkeep.core.targets import PostgresTarget
from upkeep.routines._looking import look
from upkeep.routines.database import _review_rules, _review_size, _review_state, _review_tables
from upkeep.routines.database._review_seen import Review, undetermined
from upkeep.routines.database._review_settings import Settings
from upkeep.routines.database._seen import Seen, worst_by_key

__all__ = ["Settings"]

TITLE = "Settings review"
TARGETS = ("postgres",)
COVERS = Covers.NOW
ROLE = "dba"

_NAMES = {*_review_rules.NAMES, *_review_size.NAMES, *_review_tables.NAMES, *_review_state.NAMES}


def observe(job: Job[PostgresTarget, Settings]) -> Review:
    """Ask everything in one round trip.

    :raises TransientError: the server cannot be reached, or was lost on the way.
    :raises ConfigurationError: it is there and refuses us.
    """
    settings = job.settings
    with look(job) as server:
        answers = server.batch(_questions(settings))
        seen = Seen(server.place, server.connect_ms, (), answers, "", server.round_trips)
    for answer in answers.values():
        if isinstance(answer, Failed) and answer.reason == "gone":
            raise TransientError(
                f"{seen.place}: connected, then lost: {answer.message}", "read the server's log; it is tried again"
            )
    return Review.of(seen)


def judge(job: Job[PostgresTarget, Settings], review: Review) -> Judgement:
    """Judge what was seen; a setting gets one finding, the worst."""
    settings = job.settings
    judgement = (
        Judgement(findings=(*undetermined(review.seen), *_review_rules.judge(review, settings)))
        + _review_size.judge(review, settings)
        + _review_tables.judge(review, settings)
        + _review_state.judge(review, settings, job.tools.history)
    )
    return Judgement(measurements=judgement.measurements, findings=worst_by_key(list(judgement.findings)))


def _questions(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return every statement with its values."""
    return {
        "database/settings_server": {},
        "database/settings_values": {"names": sorted(_NAMES | set(settings.expected))},
        "database/settings_files": {},
        # Table options may lower the limit below the rows of a table, so what has options comes whatever its size.
        "database/settings_tables": {"min_rows": settings.trigger_rows, "most": settings.most},
        "database/settings_overrides": {},
        "database/settings_checkpoints": {},
    }
