-- Note what a run must produce a result for.
insert into upkeep.expectation (dag_id, run_id, routine, target, system, skip)
select e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', i.routine, i.target, i.system, i.skip
  from (select %(body)s::jsonb as e) as event,
       jsonb_to_recordset(e -> 'items') as i(routine text, target text, system text, skip text)
on conflict (dag_id, run_id, routine, target) do update set skip = excluded.skip
