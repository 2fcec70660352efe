-- Close the row of an action; what it says of a backup goes into the catalogue of backups.
with event as (select %(body)s::jsonb as e),
closed as (
    update upkeep.action as a
       set closed_at = (e ->> 'at')::timestamptz, status = e ->> 'status', detail = e ->> 'detail',
           evidence = e -> 'evidence'
      from event
     where a.routine_run_id = %(routine_run_id)s and a.number = (e ->> 'number')::integer
),
verified as (
    update upkeep.backup as b
       set verified_at = (e ->> 'at')::timestamptz, verified_ok = (e -> 'evidence' -> 'verification' ->> 'ok')::boolean,
           verification = e -> 'evidence' -> 'verification'
      from event
     where e -> 'evidence' ? 'verification' and b.target = e -> 'routine' ->> 'target'
       and b.backup_id = e -> 'evidence' -> 'verification' ->> 'id'
)
insert into upkeep.backup (backup_id, target, system, location, manifest_sha256, size_bytes, source_bytes, summary,
                           routine_run_id, recorded_at)
select b ->> 'id', e -> 'routine' ->> 'target', e ->> 'system', b ->> 'location', b ->> 'manifest_sha256',
       (b ->> 'size_bytes')::bigint, (b ->> 'source_bytes')::bigint, b, %(routine_run_id)s, (e ->> 'at')::timestamptz
  from event, lateral (select e -> 'evidence' -> 'backup' as b) as kept
 where b is not null
on conflict (target, backup_id) do update
   set location = excluded.location, manifest_sha256 = excluded.manifest_sha256, size_bytes = excluded.size_bytes,
       source_bytes = excluded.source_bytes, summary = excluded.summary
