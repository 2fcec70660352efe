-- The backups of one series that are on record, newest first, removed ones included.
select target, kind, backup_id as id, location, coalesce(finished, recorded_at) as finished, tier, parent, key_id,
       coalesce(size_bytes, 0) as size_bytes, manifest_sha256, content_sha256, verified_at, verified_ok, tested_at,
       tested_ok, removed_at
  from upkeep.backup
 where target = %(target)s and kind = %(kind)s
 order by finished desc, backup_id desc
