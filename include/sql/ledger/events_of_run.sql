-- All events of one run, in order, without the report's text.
select body from upkeep.event
 where dag_id = %(dag_id)s and run_id = %(run_id)s and kind <> 'report_kept'
 order by sequence
