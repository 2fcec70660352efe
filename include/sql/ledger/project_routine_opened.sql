-- Open the row of one try before it does anything; earlier tries that never closed died.
with event as (select %(body)s::jsonb as e),
died as (
    update upkeep.routine_run as r
       set state = 'died', closed_at = (e ->> 'at')::timestamptz,
           reason = 'the worker went away without closing this try'
      from event
     where r.dag_id = e -> 'routine' ->> 'dag_id' and r.run_id = e -> 'routine' ->> 'run_id'
       and r.routine = e -> 'routine' ->> 'routine' and r.target = e -> 'routine' ->> 'target'
       and r.task = coalesce(e -> 'routine' ->> 'task', '')
       and r.try_number < (e -> 'routine' ->> 'try_number')::integer and r.state = 'running'
)
insert into upkeep.routine_run (id, dag_id, run_id, routine, target, task, try_number, system, role, state, settings,
                                dry_run, host, pid, opened_at)
select %(routine_run_id)s, e -> 'routine' ->> 'dag_id', e -> 'routine' ->> 'run_id', e -> 'routine' ->> 'routine',
       e -> 'routine' ->> 'target', coalesce(e -> 'routine' ->> 'task', ''),
       (e -> 'routine' ->> 'try_number')::integer, e ->> 'system', e ->> 'role', 'running', e -> 'settings',
       (e ->> 'dry_run')::boolean, e ->> 'host', (e ->> 'pid')::integer, (e ->> 'at')::timestamptz
  from event
on conflict (id) do update
   set state = 'running', opened_at = excluded.opened_at, closed_at = null, severity = null, reason = null, hint = null,
       opens_at = null, host = excluded.host, pid = excluded.pid
