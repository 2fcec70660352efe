"""
# Monthly maintenance

1. **PostgreSQL**, each database on its own. First it is looked at: **settings** of server, tables and roles;
   **indexes**; **slow queries** since the last run; **growth** and when space will be used up. Then it is cared for,
   one heavy thing after the other and only in the maintenance window of its system: **vacuum** and **analyze** of every
   table, and **reindex** of bloated indexes, without locking anybody out.
2. **Verification of older backups**; **restore test** of one chosen at random among all that are kept; **catalogue** of
   backups compared with the stores; **retention** with its review: what is kept and why, what goes next.
3. **Dependencies**: audit, and the smallest safe updates of the manifests as proposals.
4. **Models**: is training due?
5. **Report** and **verdict**. What a person must agree to first (large indexes, rewriting a table) is proposed: each
   proposal waits as a run of `approved_changes` under Required Actions.
"""

from airflow.sdk import DAG, TaskGroup, task_group

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import (
    BACKED_UP,
    BackupCatalogueOperator,
    BackupVerificationOperator,
    RestoreTestOperator,
    RetentionOperator,
)
from upkeep.operators.capacity import CapacityOperator
from upkeep.operators.database import (
    AnalyzeOperator,
    IndexReviewOperator,
    ReindexOperator,
    SettingsReviewOperator,
    SlowQueriesOperator,
    VacuumOperator,
)
from upkeep.operators.dependencies import DependencyAuditOperator, UpdateProposalOperator
from upkeep.operators.model import RetrainingOperator

dag: DAG
with cadence_dag(Cadence.MONTHLY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    @task_group
    def postgres(target: dict[str, str]) -> None:
        """Look at one database, then care for it."""
        looks = [
            SettingsReviewOperator(task_id="settings_review", target=target),
            IndexReviewOperator(task_id="index_review", target=target),
            SlowQueriesOperator(task_id="slow_queries", target=target),
            CapacityOperator(task_id="growth", target=target),
        ]
        vacuum = VacuumOperator(task_id="vacuum", target=target, settings={"scope": "all"})
        analyze = AnalyzeOperator(task_id="analyze", target=target)
        reindex = ReindexOperator(task_id="reindex", target=target)
        looks >> vacuum >> analyze >> reindex

    postgres.expand(target=select.of("postgres"))

    with TaskGroup("backup"):
        catalogue = BackupCatalogueOperator.partial(task_id="catalogue").expand(target=select.of(*BACKED_UP))
        verify = BackupVerificationOperator.partial(task_id="verify", settings={"which": "older"}).expand(
            target=select.of(*BACKED_UP)
        )
        restore_test = RestoreTestOperator.partial(task_id="restore_test", settings={"which": "random"}).expand(
            target=select.of("postgres")
        )
        retention = RetentionOperator.partial(task_id="retention", settings={"review": True}).expand(
            target=select.of(*BACKED_UP)
        )
        catalogue >> [verify, restore_test] >> retention

    with TaskGroup("dependencies"):
        audit = DependencyAuditOperator.partial(task_id="audit").expand(target=select.of("dependencies"))
        update = UpdateProposalOperator.partial(task_id="update").expand(target=select.of("dependencies"))
        audit >> update

    with TaskGroup("model"):
        RetrainingOperator.partial(task_id="retraining").expand(target=select.of("model"))
