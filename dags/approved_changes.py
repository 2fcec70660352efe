"""
# Changes that a person must agree to

Large reindexes, VACUUM FULL and the like are only *proposed* by the maintenance runs. For every target and routine with
proposals a run of this DAG asks, once:

1. **Request**: lists what is proposed, why, what it blocks, and how to undo it.
2. **Ask**: waits under *Required Actions*, without a worker, for up to six days. No answer counts as a rejection. Who
   answered what is kept in the ledger.
3. **Do**: looks and plans anew in the maintenance window, and does exactly what was approved and is still needed.
4. **Report** and **verdict**, as in every maintenance run.

Trigger it by hand with a target and a routine, and you are asked about what that routine would propose now.
"""

from airflow.sdk import DAG

from upkeep.cadence import approval_dag
from upkeep.operators.approval import ApprovedChangesOperator, AskPersonOperator, RequestOperator

dag: DAG
with approval_dag(doc_md=__doc__) as dag:
    request = RequestOperator(task_id="request")
    ask = AskPersonOperator(task_id="ask")
    do = ApprovedChangesOperator(task_id="do")
    request >> ask >> do
