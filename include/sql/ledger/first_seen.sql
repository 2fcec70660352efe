-- Since when findings have been there without a break, and in how many runs: a run of the routine that looked and did
-- not find it ends the streak. One that failed before it could look says nothing.
with looked as (
    select r.id, r.target, r.routine, r.opened_at
      from upkeep.routine_run as r
     where r.state = 'success' or (r.state = 'failed' and coalesce(r.reason, '') = '')
), clean as (
    select k.key, max(l.opened_at) as at
      from (select distinct key, target, routine from upkeep.finding where key = any(%(keys)s)) as k
      join looked as l on l.target = k.target and l.routine = k.routine
     where not exists (select from upkeep.finding as f where f.routine_run_id = l.id and f.key = k.key)
     group by k.key
)
select f.key, min(f.at) as first_seen, count(distinct f.routine_run_id) as times
  from upkeep.finding as f left join clean as c on c.key = f.key
 where f.key = any(%(keys)s) and (c.at is null or f.at > c.at)
 group by f.key
