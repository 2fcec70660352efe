-- Keep a document that an action made; its hash is taken anew from what is kept.
with event as (
    select e, e -> 'evidence' -> 'artefact' as a, (e ->> 'at')::timestamptz as at,
           coalesce(e -> 'evidence' -> 'artefact' ->> 'content', '') as content
      from (select %(body)s::jsonb as e) as said
),
hashed as (
    select *, encode(sha256(convert_to(content, 'UTF8')), 'hex') as sha256 from event
),
content as (
    insert into upkeep.artefact_content (sha256, content) select sha256, content from hashed on conflict do nothing
)
insert into upkeep.artefact (routine_run_id, number, system, target, routine, name, media_type, sha256, at)
select %(routine_run_id)s, (e ->> 'number')::integer, e ->> 'system', e -> 'routine' ->> 'target',
       e -> 'routine' ->> 'routine', coalesce(a ->> 'name', ''), coalesce(a ->> 'media_type', 'text/plain'), sha256, at
  from hashed
on conflict (routine_run_id, number) do update
   set name = excluded.name, media_type = excluded.media_type, sha256 = excluded.sha256, at = excluded.at
