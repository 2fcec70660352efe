"""
# The site's daily maintenance

The package's own cadence with two lines more.
"""

from airflow.sdk import DAG
from site_maintenance.operators import CacheSweepOperator, OrderCountOperator

from upkeep.cadence import Cadence, SelectTargetsOperator, cadence_dag

dag: DAG
with cadence_dag(Cadence.DAILY, doc_md=__doc__, dag_id="site_daily") as dag:
    select = SelectTargetsOperator(task_id="select")
    CacheSweepOperator.partial(task_id="sweep").expand(target=select.of("files"))
    OrderCountOperator.partial(task_id="orders").expand(target=select.of("logs"))
