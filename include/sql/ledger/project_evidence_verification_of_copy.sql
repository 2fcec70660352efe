-- Note in the catalogue that a backup in one of the further places was read back: only of the backup that lies there.
update upkeep.backup as b
   set verified_at = (e ->> 'at')::timestamptz, verified_ok = (v ->> 'ok')::boolean, verification = v
  from (select %(body)s::jsonb as e) as event, lateral (select e -> 'evidence' -> 'verification_of_copy' as v) as said
 where b.target = e -> 'routine' ->> 'target' and b.kind = v ->> 'kind' and b.backup_id = v ->> 'id'
   and starts_with(b.location, rtrim(v ->> 'store', '/') || '/')
   and (b.verified_at is null or b.verified_at <= (e ->> 'at')::timestamptz)
