-- Put a backup that was made into the catalogue, with what was said of it before this arrived (other workers' spools).
with event as (select %(body)s::jsonb as e),
made as (
    select b, e ->> 'system' as system, e -> 'routine' ->> 'target' as target, coalesce(b ->> 'kind', 'dump') as kind,
           b ->> 'id' as id, (e ->> 'at')::timestamptz as at
      from event, lateral (select e -> 'evidence' -> 'backup' as b) as kept
     where b ->> 'id' is not null
)
insert into upkeep.backup (target, kind, backup_id, system, tier, parent, key_id, location, manifest_sha256,
                           content_sha256, size_bytes, source_bytes, summary, routine_run_id, finished, recorded_at,
                           verified_at, verified_ok, verification, tested_at, tested_ok, removed_at, removal)
select m.target, m.kind, m.id, m.system, coalesce(b ->> 'tier', 'daily'), b ->> 'parent', coalesce(b ->> 'key_id', ''),
       coalesce(b ->> 'location', ''), coalesce(b ->> 'manifest_sha256', ''), coalesce(b ->> 'content_sha256', ''),
       (b ->> 'size_bytes')::bigint, (b ->> 'source_bytes')::bigint, b, %(routine_run_id)s,
       (b ->> 'finished')::timestamptz, m.at, v.at, v.ok, v.verification, t.at, t.ok, g.at, g.reason
  from made as m
  left join lateral (
       select a.closed_at as at, (a.evidence -> 'verification' ->> 'ok')::boolean as ok,
              a.evidence -> 'verification' as verification
         from upkeep.action as a join upkeep.routine_run as r on r.id = a.routine_run_id
        where a.evidence ? 'verification' and a.evidence -> 'verification' ->> 'id' = m.id and r.target = m.target
          and coalesce(a.evidence -> 'verification' ->> 'kind', 'dump') = m.kind
        order by a.closed_at desc limit 1) as v on true
  left join lateral (
       select x.at, x.ok from upkeep.restore_test as x
        where x.target = m.target and x.kind = m.kind and x.backup_id = m.id order by x.at desc limit 1) as t on true
  left join lateral (
       select a.closed_at as at, coalesce(gone ->> 'reason', '') as reason
         from upkeep.action as a join upkeep.routine_run as r on r.id = a.routine_run_id,
              jsonb_array_elements(case jsonb_typeof(a.evidence -> 'removed' -> 'backups') when 'array'
                                 then a.evidence -> 'removed' -> 'backups' end) as gone
        where a.evidence ? 'removed' and gone ->> 'id' = m.id and coalesce(gone ->> 'kind', 'dump') = m.kind
          and r.target = m.target
        order by a.closed_at limit 1) as g on true
on conflict (target, kind, backup_id) do update
   set tier = excluded.tier, parent = excluded.parent, key_id = excluded.key_id, location = excluded.location,
       manifest_sha256 = excluded.manifest_sha256, content_sha256 = excluded.content_sha256,
       size_bytes = excluded.size_bytes, source_bytes = excluded.source_bytes, summary = excluded.summary,
       finished = excluded.finished, routine_run_id = excluded.routine_run_id
