-- Close a run with its verdict; tries that are still open lost their worker.
with event as (select %(body)s::jsonb as e),
died as (
    update upkeep.routine_run as r
       set state = 'died', closed_at = (e ->> 'at')::timestamptz,
           reason = 'the worker went away without closing this try'
      from event
     where r.dag_id = e -> 'run' ->> 'dag_id' and r.run_id = e -> 'run' ->> 'run_id' and r.state = 'running'
)
update upkeep.run as r
   set closed_at = (e ->> 'at')::timestamptz, verdict = e ->> 'verdict', reasons = e -> 'reasons'
  from event
 where r.dag_id = e -> 'run' ->> 'dag_id' and r.run_id = e -> 'run' ->> 'run_id'
