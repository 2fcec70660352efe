-- Open the row of an action before the deed.
insert into upkeep.action (routine_run_id, number, name, subject, reason, undo, details, dry_run, opened_at)
select %(routine_run_id)s, (e ->> 'number')::integer, e -> 'action' ->> 'name', e -> 'action' ->> 'subject',
       e -> 'action' ->> 'reason', e -> 'action' ->> 'undo', e -> 'action' -> 'details', (e ->> 'dry_run')::boolean,
       (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (routine_run_id, number) do update
   set opened_at = excluded.opened_at, closed_at = null, status = null, detail = null, evidence = null
