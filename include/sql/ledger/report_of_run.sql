-- The kept report of one run.
select html, markdown, at from upkeep.report where dag_id = %(dag_id)s and run_id = %(run_id)s
