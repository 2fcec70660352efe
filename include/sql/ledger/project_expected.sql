-- Note what a run must produce a result for; a second selection of the same run replaces the first.
with event as (select %(body)s::jsonb as e),
gone as (
    delete from upkeep.expectation as x using event
     where x.dag_id = e -> 'run' ->> 'dag_id' and x.run_id = e -> 'run' ->> 'run_id'
       and not exists (select from jsonb_to_recordset(e -> 'items') as i(routine text, target text)
                        where i.routine = x.routine and i.target = x.target)
)
insert into upkeep.expectation (dag_id, run_id, routine, target, system, skip)
select e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', i.routine, i.target, i.system, i.skip
  from event,
       jsonb_to_recordset(e -> 'items') as i(routine text, target text, system text, skip text)
on conflict (dag_id, run_id, routine, target) do update set skip = excluded.skip
