-- Requests for a routine on a target that nobody has answered yet, as far as the ledger knows: newest first.
select dag_id, run_id, actions from upkeep.approval
 where target = %(target)s and routine = %(routine)s and decision is null
 order by asked_at desc
