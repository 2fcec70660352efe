-- Who waits for locks behind some of our sessions (`pids`), the longest for each: `seconds` is how long by now.
-- Autovacuum does not count, it comes again; nor do those of `pids` themselves.
with waiting as materialized (
    select w.pid, coalesce(extract(epoch from clock_timestamp() - w.waitstart)::float8, 0) as seconds,
           a.usename as role, a.application_name as application, a.query
      from pg_locks as w
      left join pg_stat_activity as a on a.pid = w.pid
     where not w.granted and w.pid <> all(%(pids)s::int[]) and a.backend_type is distinct from 'autovacuum worker'
)
select distinct on (b.pid) b.pid, w.pid as waiter, w.seconds, w.role, w.application, w.query
  from waiting as w
 cross join unnest(pg_blocking_pids(w.pid)) as b (pid)
 where b.pid = any(%(pids)s::int[])
 order by b.pid, w.seconds desc
