"""
# Weekly maintenance

So far: **verification of older backups**, so that every stored byte is read again while it is kept.
"""

from airflow.sdk import DAG, TaskGroup

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import BackupVerificationOperator

dag: DAG
with cadence_dag(Cadence.WEEKLY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    with TaskGroup("backup"):
        BackupVerificationOperator.partial(task_id="verify", settings={"which": "older"}).expand(
            target=select.of("postgres")
        )
