-- The newest runs, for the list of reports.
select dag_id, run_id, cadence, run_type, window_start, window_end, opened_at, closed_at, verdict
  from upkeep.run order by opened_at desc limit %(limit)s
