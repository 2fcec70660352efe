-- The newest backups of each series of some targets with what proves them: verification and newest restore tests.
-- `total` counts the series, `removed` says whether backups that are gone are wanted too, `id` limits to one backup.
select b.target, b.kind, b.backup_id as id, b.tier, b.parent, b.key_id, b.location, b.manifest_sha256, b.content_sha256,
       b.finished_at as finished, b.size_bytes, b.source_bytes, b.summary, b.verified_at, b.verified_ok, b.verification,
       b.tested_at, b.tested_ok, b.removed_at, b.removal, b.total, coalesce(t.tests, '[]') as tests
  from (select k.*, coalesce(k.finished, k.recorded_at) as finished_at,
               count(*) over (partition by k.target, k.kind) as total,
               row_number() over (partition by k.target, k.kind
                                  order by coalesce(k.finished, k.recorded_at) desc, k.backup_id desc) as place
          from upkeep.backup as k
         where k.target = any(%(targets)s) and (%(removed)s or k.removed_at is null)
           and (%(id)s::text is null or k.backup_id = %(id)s)) as b
  left join lateral (
       select jsonb_agg(to_jsonb(x) order by x.at desc) as tests
         from (select r.at, r.evidence from upkeep.restore_test as r
                where r.target = b.target and r.kind = b.kind and r.backup_id = b.backup_id
                order by r.at desc limit %(tests)s) as x) as t on true
 where b.place <= %(most)s
 order by b.target, b.kind, b.place
