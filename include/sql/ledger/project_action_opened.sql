-- Open the row of an action before the deed, or keep one that is only proposed.
insert into upkeep.action (routine_run_id, number, name, subject, reason, undo, approval, details, dry_run, status,
                           opened_at)
select %(routine_run_id)s, (e ->> 'number')::integer, e -> 'action' ->> 'name', e -> 'action' ->> 'subject',
       e -> 'action' ->> 'reason', e -> 'action' ->> 'undo', coalesce(e -> 'action' ->> 'approval', ''),
       e -> 'action' -> 'details', (e ->> 'dry_run')::boolean,
       case when (e ->> 'proposed')::boolean then 'proposed' end, (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (routine_run_id, number) do update
   set opened_at = excluded.opened_at, closed_at = null, status = excluded.status, detail = null, evidence = null
