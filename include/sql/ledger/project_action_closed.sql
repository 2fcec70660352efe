-- Close the row of an action; what it says of backups goes into their catalogue, see project_evidence_*, and so does the
-- content of a document that it made.
update upkeep.action as a
   set closed_at = (e ->> 'at')::timestamptz, status = e ->> 'status', detail = e ->> 'detail',
       evidence = (e -> 'evidence') #- '{artefact,content}'
  from (select %(body)s::jsonb as e) as event
 where a.routine_run_id = %(routine_run_id)s and a.number = (e ->> 'number')::integer
