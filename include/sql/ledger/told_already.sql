-- Whether a rung has been told of a subject in this run.
select exists (select from upkeep.escalation
                where dag_id = %(dag_id)s and run_id = %(run_id)s and cause = %(cause)s and subject = %(subject)s
                  and rung = %(rung)s) as told
