"""
# Quarterly maintenance

1. **Capacity review** of every PostgreSQL database: the trend of its size, when the volume or a stated limit will be
   used up, and what to provide by when.
2. **Verification of older backups**, so that every stored byte is read again while it is kept.
3. **Report** and **verdict**.
"""

from airflow.sdk import DAG, TaskGroup

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import BackupVerificationOperator
from upkeep.operators.capacity import CapacityOperator

dag: DAG
with cadence_dag(Cadence.QUARTERLY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    with TaskGroup("capacity"):
        CapacityOperator.partial(task_id="review", settings={"review": True, "horizon_days": 365}).expand(
            target=select.of("postgres")
        )

    with TaskGroup("backup"):
        BackupVerificationOperator.partial(task_id="verify", settings={"which": "older"}).expand(
            target=select.of("postgres")
        )
