-- Since when the findings of a run have been seen without a break longer than the gap allowed.
select f.key, min(f.at) as first_seen, count(distinct f.routine_run_id) as times
  from upkeep.finding as f
 where f.key = any(%(keys)s)
 group by f.key
