"""
# Daily maintenance

Runs every night over every system that `include/systems/` describes:

1. **Select** the targets, and say what is wrong with a system file if one is bad.
2. **Database health** of every PostgreSQL and SQLite database.
3. **Backup** of every PostgreSQL, SQLite and Redis database with proof of its content, and of all files, configuration
   and models; then **verification** of the newest backup of each, and **retention**, which removes what is due.
4. **Service health** of every endpoint.
5. **Logs**: the lines of the run's window are read once: errors, response times, failed logins, attacks, secrets.
6. **Models**: a dated copy of files that changed; files, metadata, version and loading; how long a prediction takes.
7. **Report** and **verdict**. The verdict fails the run when something critical was found, a routine failed, or an
   expected result is missing.

Trigger it by hand for one system or one routine; a *dry run* looks and plans but changes nothing.
"""

from airflow.sdk import DAG, TaskGroup

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag
from upkeep.operators.backup import (
    BACKED_UP,
    BackupOperator,
    BackupVerificationOperator,
    FileBackupOperator,
    RedisBackupOperator,
    RetentionOperator,
    SqliteBackupOperator,
)
from upkeep.operators.database import DatabaseHealthOperator, SqliteHealthOperator
from upkeep.operators.logs import LogReviewOperator
from upkeep.operators.model import ModelHealthOperator, ModelLatencyOperator, ModelVersionsOperator
from upkeep.operators.services import ServiceHealthOperator

dag: DAG
with cadence_dag(Cadence.DAILY, doc_md=__doc__) as dag:
    select = SelectTargetsOperator(task_id="select")

    with TaskGroup("database"):
        DatabaseHealthOperator.partial(task_id="postgres").expand(target=select.of("postgres"))
        SqliteHealthOperator.partial(task_id="sqlite").expand(target=select.of("sqlite"))

    with TaskGroup("backup"):
        backups = [
            BackupOperator.partial(task_id="postgres").expand(target=select.of("postgres")),
            SqliteBackupOperator.partial(task_id="sqlite").expand(target=select.of("sqlite")),
            RedisBackupOperator.partial(task_id="redis").expand(target=select.of("redis")),
            FileBackupOperator.partial(task_id="files").expand(target=select.of("files", "model")),
        ]
        verify = BackupVerificationOperator.partial(task_id="verify").expand(target=select.of(*BACKED_UP))
        retention = RetentionOperator.partial(task_id="retention").expand(target=select.of(*BACKED_UP))
        backups >> verify >> retention

    with TaskGroup("services"):
        ServiceHealthOperator.partial(task_id="health").expand(target=select.of("http"))

    with TaskGroup("logs"):
        LogReviewOperator.partial(task_id="review").expand(target=select.of("logs"))

    with TaskGroup("model"):
        versions = ModelVersionsOperator.partial(task_id="versions").expand(target=select.of("model"))
        health = ModelHealthOperator.partial(task_id="health").expand(target=select.of("model"))
        versions >> health
        ModelLatencyOperator.partial(task_id="latency").expand(target=select.of("model"))
