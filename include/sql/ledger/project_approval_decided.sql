-- Keep who decided what on a request, with the actions that stood in it.
insert into upkeep.approval (dag_id, run_id, routine, target, system, actions, asked_at, decision, decided_by,
                             decided_by_id, decided_at)
select e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', e ->> 'routine', e ->> 'target', e ->> 'system',
       e -> 'actions', (e ->> 'at')::timestamptz, e ->> 'decision', e ->> 'by', e ->> 'by_id', (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (dag_id, run_id) do update
   set actions = excluded.actions, decision = excluded.decision, decided_by = excluded.decided_by,
       decided_by_id = excluded.decided_by_id, decided_at = excluded.decided_at
