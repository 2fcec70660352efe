-- Note in the catalogue that a backup was read back. What older versions wrote names no kind: it was a dump.
update upkeep.backup as b
   set verified_at = (e ->> 'at')::timestamptz, verified_ok = (v ->> 'ok')::boolean, verification = v
  from (select %(body)s::jsonb as e) as event, lateral (select e -> 'evidence' -> 'verification' as v) as said
 where b.target = e -> 'routine' ->> 'target' and b.kind = coalesce(v ->> 'kind', 'dump') and b.backup_id = v ->> 'id'
   and (b.verified_at is null or b.verified_at <= (e ->> 'at')::timestamptz)
