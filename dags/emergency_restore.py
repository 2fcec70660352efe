"""
# Emergency restore

**For whoever was woken up.** Data are gone or wrong, and a backup is to take their place. Nothing is overwritten:
the backup is restored *beside*, compared with its manifest, and swapped in by renaming; what was there before is kept.

1. **Trigger DAG**. Choose the `target` (`claims/db`), leave `backup` at `latest` or paste an id from the report of a
   night *before* the damage, and write the `reason`.
2. **request** looks and changes nothing: is the backup whole, is its key here, is it the right server, is there room,
   who is connected, what would be lost. When it is red, its log says what to mend; trigger again.
3. **ask** waits under *Required Actions*. Read `would be lost` and `newest data`. **Approve** cuts everybody off for a
   few seconds at the end, not before. **Reject** changes nothing.
4. **mend** goes back from what an interrupted restore left half done; **safety** backs the present state up. When it
   cannot be read any more, trigger again with `without_safety_backup`.
5. **do** fetches, restores beside, compares every row, asks the smoke questions, swaps, and connects as the
   application does. When anything fails, the present state has its name again and takes connections.
6. **report** has times, proof and the commands that **undo** it.

When a worker dies in the middle: trigger it again. What is half done is shown, and undone before anything else.

Afterwards: tell the application's owners from when the data are, compare with the kept one what came later, and drop
`<name>__before_<time>` by hand when nobody misses anything.
"""

from airflow.sdk import DAG, Param

from upkeep.cadence import ESCALATE, SETTINGS, runbook_dag
from upkeep.operators.approval import AskPersonOperator
from upkeep.operators.recovery import (
    RESTORE,
    EmergencyRequestOperator,
    EmergencyRestoreOperator,
    MendOperator,
    SafetyBackupOperator,
    restorable,
)

FORM = {
    "target": Param(
        type="string",
        pattern="^[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]*$",
        examples=restorable(),
        title="Target",
        description="The database, files or configuration to bring back.",
    ),
    "backup": Param(
        "latest",
        type="string",
        pattern="^(latest|[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8})$",
        title="Backup",
        description="`latest`, or the id of a backup from before the damage; ids stand in the reports.",
    ),
    "reason": Param(type="string", minLength=5, title="Reason", description="What happened; stands in the ledger."),
    "without_safety_backup": Param(
        False,
        type="boolean",
        title="Proceed without safety backup",
        description="Only when the present state cannot be backed up any more; it is kept under another name anyway.",
    ),
    "another_server": Param(
        False,
        type="boolean",
        title="Another server",
        description="The connection leads to another server than the one that was backed up, and that is meant.",
    ),
    "outside_window": Param(
        True,
        type="boolean",
        title="Outside the maintenance window",
        description="A restore never waits for the window; the safety backup does not either.",
    ),
    "escalate": ESCALATE,
    "settings": SETTINGS,
    "routine": Param(RESTORE, enum=[RESTORE], title="Routine", description="What this DAG runs; leave it."),
}

dag: DAG
with runbook_dag(
    "Bring a database or files back from a backup, after a person has agreed",
    dag_id="emergency_restore",
    doc_md=__doc__,
    params=FORM,
) as dag:
    request = EmergencyRequestOperator(task_id="request")
    ask = AskPersonOperator(task_id="ask")
    mend = MendOperator(task_id="mend")
    safety = SafetyBackupOperator(task_id="safety")
    restore = EmergencyRestoreOperator(task_id="do")
    request >> ask >> mend >> safety >> restore
