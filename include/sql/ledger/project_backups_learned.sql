-- Put backups that were found in a store into the catalogue; what is on record is completed and never overwritten.
insert into upkeep.backup as b (target, kind, backup_id, system, tier, parent, key_id, location, manifest_sha256,
                                content_sha256, size_bytes, summary, finished, recorded_at)
select k.target, k.kind, k.id, split_part(k.target, '/', 1), k.tier, k.parent, k.key_id, k.location, k.manifest_sha256,
       k.content_sha256, k.size_bytes, jsonb_build_object('id', k.id, 'kind', k.kind, 'learned', true), k.finished,
       (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event,
       jsonb_to_recordset(e -> 'backups') as k(target text, kind text, id text, tier text, parent text, key_id text,
                                               location text, manifest_sha256 text, content_sha256 text,
                                               size_bytes bigint, finished timestamptz)
on conflict (target, kind, backup_id) do update
   set manifest_sha256 = coalesce(nullif(b.manifest_sha256, ''), excluded.manifest_sha256),
       content_sha256 = coalesce(nullif(b.content_sha256, ''), excluded.content_sha256),
       location = coalesce(nullif(b.location, ''), excluded.location),
       size_bytes = coalesce(b.size_bytes, excluded.size_bytes), finished = coalesce(b.finished, excluded.finished),
       parent = coalesce(b.parent, excluded.parent), key_id = coalesce(nullif(b.key_id, ''), excluded.key_id)
