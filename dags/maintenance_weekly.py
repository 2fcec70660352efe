"""
# Weekly maintenance

1. **PostgreSQL**, each database on its own. First it is looked at: **indexes** that are invalid, duplicate, unused,
   missing or bloated; **slow queries** since the last run; **growth** and when space will be used up. Then it is cared
   for, one heavy thing after the other and only in the maintenance window of its system: **vacuum** and **analyze** of
   the tables that need it, worst first, and **reindex** of bloated indexes, without locking anybody out.
2. **SQLite**: integrity, a proved copy, statistics, free pages.
3. **Physical backup** of every PostgreSQL cluster; **verification round**, so that every stored byte is read again
   while it is kept; **restore test** of the newest dump of every database.
4. **Logs**: rotated, compressed and deleted by the policy of each, with proof that no line was lost.
5. **Dependencies**: what is known to be vulnerable, and what is outdated.
6. **Models**: drift of the week's data, scores by the labels that have arrived.
7. **Report** and **verdict**. What a person must agree to first (large indexes, rewriting a table) is proposed: each
   proposal waits as a run of `approved_changes` under Required Actions.
"""

from airflow.sdk import DAG, TaskGroup, task_group

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import (
    BACKED_UP,
    BackupVerificationOperator,
    PhysicalBackupOperator,
    RestoreTestOperator,
)
from upkeep.operators.capacity import CapacityOperator
from upkeep.operators.database import (
    AnalyzeOperator,
    IndexReviewOperator,
    ReindexOperator,
    SlowQueriesOperator,
    SqliteCareOperator,
    VacuumOperator,
)
from upkeep.operators.dependencies import DependencyAuditOperator, OutdatedOperator
from upkeep.operators.logs import LogRotationOperator
from upkeep.operators.model import ModelDriftOperator, ModelScoresOperator

dag: DAG
with cadence_dag(Cadence.WEEKLY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    @task_group
    def postgres(target: dict[str, str]) -> None:
        """Look at one database, then care for it."""
        looks = [
            IndexReviewOperator(task_id="index_review", target=target),
            SlowQueriesOperator(task_id="slow_queries", target=target),
            CapacityOperator(task_id="growth", target=target),
        ]
        vacuum = VacuumOperator(task_id="vacuum", target=target)
        analyze = AnalyzeOperator(task_id="analyze", target=target)
        reindex = ReindexOperator(task_id="reindex", target=target)
        looks >> vacuum >> analyze >> reindex

    postgres.expand(target=select.of("postgres"))

    with TaskGroup("sqlite"):
        SqliteCareOperator.partial(task_id="care").expand(target=select.of("sqlite"))

    with TaskGroup("backup"):
        physical = PhysicalBackupOperator.partial(task_id="physical", settings={"tier": "weekly"}).expand(
            target=select.of("postgres")
        )
        verify = BackupVerificationOperator.partial(task_id="verify", settings={"which": "older"}).expand(
            target=select.of(*BACKED_UP)
        )
        restore_test = RestoreTestOperator.partial(task_id="restore_test").expand(target=select.of("postgres"))
        physical >> [verify, restore_test]

    with TaskGroup("logs"):
        LogRotationOperator.partial(task_id="rotation").expand(target=select.of("logs"))

    with TaskGroup("dependencies"):
        DependencyAuditOperator.partial(task_id="audit").expand(target=select.of("dependencies"))
        OutdatedOperator.partial(task_id="outdated").expand(target=select.of("dependencies"))

    with TaskGroup("model"):
        ModelDriftOperator.partial(task_id="drift").expand(target=select.of("model"))
        ModelScoresOperator.partial(task_id="scores").expand(target=select.of("model"))
