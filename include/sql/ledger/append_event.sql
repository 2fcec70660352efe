-- Append one event; no row comes back when it is there already, and then nothing else may be done for it.
insert into upkeep.event (event_id, kind, dag_id, run_id, at, body)
values (%(id)s, %(kind)s, %(dag_id)s, %(run_id)s, %(at)s, %(body)s::jsonb)
on conflict (event_id) do nothing
returning sequence
