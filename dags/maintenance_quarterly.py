"""
# Quarterly maintenance

1. **Capacity review** of every PostgreSQL database: the trend of its size, when the volume or a stated limit will be
   used up, and what to provide by when.
2. **Full backup** of everything: dumps and whole clusters, SQLite, Redis, files, configuration, models; then
   **verification** of what was just made.
3. **Disaster-recovery test** of every system that says how it is brought back: from its backups alone, in a place of
   its own, up to services that answer.
4. **Models**: evaluation whether to train anew, and a new reference profile to compare with; both as proposals.
5. **Report** and **verdict**. What a person must agree to waits as a run of `approved_changes` under Required Actions.
"""

from airflow.sdk import DAG, TaskGroup

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import (
    BACKED_UP,
    BackupOperator,
    BackupVerificationOperator,
    FileBackupOperator,
    PhysicalBackupOperator,
    RedisBackupOperator,
    SqliteBackupOperator,
)
from upkeep.operators.capacity import CapacityOperator
from upkeep.operators.model import ModelProfileOperator, RetrainingOperator
from upkeep.operators.recovery import DisasterRecoveryTestOperator

QUARTERLY = {"tier": "quarterly"}

dag: DAG
with cadence_dag(Cadence.QUARTERLY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    with TaskGroup("capacity"):
        CapacityOperator.partial(task_id="review", settings={"review": True, "horizon_days": 365}).expand(
            target=select.of("postgres")
        )

    with TaskGroup("backup"):
        backups = [
            BackupOperator.partial(task_id="postgres", settings=QUARTERLY).expand(target=select.of("postgres")),
            PhysicalBackupOperator.partial(task_id="physical", settings=QUARTERLY).expand(target=select.of("postgres")),
            SqliteBackupOperator.partial(task_id="sqlite", settings=QUARTERLY).expand(target=select.of("sqlite")),
            RedisBackupOperator.partial(task_id="redis", settings=QUARTERLY).expand(target=select.of("redis")),
            FileBackupOperator.partial(task_id="files", settings=QUARTERLY).expand(target=select.of("files", "model")),
        ]
        verify = BackupVerificationOperator.partial(task_id="verify").expand(target=select.of(*BACKED_UP))

    with TaskGroup("recovery"):
        recovery = DisasterRecoveryTestOperator.partial(task_id="system").expand(target=select.of("recovery"))

    with TaskGroup("model"):
        RetrainingOperator.partial(task_id="retraining", settings={"ask": "always"}).expand(target=select.of("model"))
        ModelProfileOperator.partial(task_id="profile").expand(target=select.of("model"))

    backups >> verify >> recovery
