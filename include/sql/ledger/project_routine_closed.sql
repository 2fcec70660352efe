-- Close the row of one try, or note what it waits for.
update upkeep.routine_run
   set state = e ->> 'state', severity = e ->> 'severity', reason = e ->> 'reason', hint = e ->> 'hint',
       opens_at = (e ->> 'opens')::timestamptz, closed_at = (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
 where id = %(routine_run_id)s
