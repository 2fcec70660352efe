-- Note in the catalogue that backups are gone, since when and why; their rows and their proof stay.
update upkeep.backup as b
   set removed_at = coalesce(b.removed_at, (e ->> 'at')::timestamptz), removal = coalesce(b.removal, gone ->> 'reason', '')
  from (select %(body)s::jsonb as e) as event,
       jsonb_array_elements(case jsonb_typeof(e -> 'evidence' -> 'removed' -> 'backups') when 'array'
                                 then e -> 'evidence' -> 'removed' -> 'backups' end) as gone
 where b.target = e -> 'routine' ->> 'target' and b.kind = coalesce(gone ->> 'kind', 'dump')
   and b.backup_id = gone ->> 'id'
