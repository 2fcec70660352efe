-- Keep who was told what.
insert into upkeep.escalation (event_id, dag_id, run_id, cause, subject, system, rung, message, deliveries, at)
select (e ->> 'id')::uuid, e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', e ->> 'cause', e ->> 'subject',
       e ->> 'system', (e ->> 'rung')::integer, e ->> 'message', e -> 'deliveries', (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (event_id) do nothing
