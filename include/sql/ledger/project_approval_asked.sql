-- Keep what a person is asked to agree to; what was decided before this arrived (from another worker's spool) stays.
insert into upkeep.approval (dag_id, run_id, routine, target, system, actions, asked_by_dag, asked_by_run, asked_at)
select e -> 'request' ->> 'dag_id', e -> 'request' ->> 'run_id', e ->> 'routine', e ->> 'target', e ->> 'system',
       e -> 'actions', e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (dag_id, run_id) do update
   set asked_by_dag = excluded.asked_by_dag, asked_by_run = excluded.asked_by_run, asked_at = excluded.asked_at
