-- One row about a session (`pid`) at work on an index: the kind of lock that it waits for and for how long (seconds),
-- who waits for it longest (autovacuum does not count, it comes again), how far it is, and whom it waits for.
-- https://www.postgresql.org/docs/current/progress-reporting.html#CREATE-INDEX-PROGRESS-REPORTING
with waiting as materialized (
    select pid, locktype, coalesce(extract(epoch from clock_timestamp() - waitstart)::float8, 0) as seconds
      from pg_locks
     where not granted
), behind as (
    select w.pid, w.seconds
      from waiting as w
      left join pg_stat_activity as a on a.pid = w.pid
     where w.pid <> %(pid)s::int and a.backend_type is distinct from 'autovacuum worker'
       and %(pid)s::int = any (pg_blocking_pids(w.pid))
     order by w.seconds desc
     limit 1
)
select own.locktype as waits_for, coalesce(own.seconds, 0) as waits_seconds,
       behind.pid as waiter, coalesce(behind.seconds, 0) as waiter_seconds,
       p.phase, coalesce(p.blocks_done, 0) as done, coalesce(p.blocks_total, 0) as total,
       l.pid as locker, l.usename as locker_role, l.application_name as locker_application, l.state as locker_state,
       l.query as locker_query, extract(epoch from clock_timestamp() - l.xact_start)::float8 as locker_seconds
  from (select) as one
  left join (select locktype, seconds from waiting where pid = %(pid)s::int order by seconds desc limit 1) as own on true
  left join behind on true
  left join pg_stat_progress_create_index as p on p.pid = %(pid)s::int
  left join pg_stat_activity as l on l.pid = nullif(p.current_locker_pid, 0)
