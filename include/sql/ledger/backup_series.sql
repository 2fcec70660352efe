-- Every series of backups, even when all are removed: how many are there, how large, the newest and the newest proved
-- one, and the DAGs whose routines about backups worked on the target in the last 400 days.
select s.*, coalesce((select array_agg(distinct r.dag_id) from upkeep.routine_run as r
                       where r.target = s.target and r.routine ~ '^(backup|recovery)\.'
                         and r.opened_at > now() - interval '400 days'), '{}') as dags
  from (select b.target, b.kind, count(*) filter (where b.removed_at is null) as kept,
               coalesce(sum(b.size_bytes) filter (where b.removed_at is null), 0)::bigint as size_bytes,
               max(coalesce(b.finished, b.recorded_at)) as newest_at,
               max(coalesce(b.finished, b.recorded_at)) filter (
                   where b.removed_at is null and (b.verified_ok or b.tested_ok) and b.verified_ok is not false
                     and b.tested_ok is not false
               ) as proved_at,
               max(b.tested_at) as tested_at
          from upkeep.backup as b
         where %(target)s::text is null or b.target = %(target)s
         group by b.target, b.kind) as s
 order by s.target, s.kind
