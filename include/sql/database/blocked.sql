-- Sessions of this database that wait for a lock, and everybody whom they wait for, in one list.
-- `blocked_by` is empty for those who do not wait; process 0 in it is a prepared transaction. Whoever waits is read
-- from pg_locks and not from wait_event_type, which is hidden from roles without pg_monitor.
with waiting as materialized (
    select w.pid, pg_blocking_pids(w.pid) as blocked_by,
           extract(epoch from clock_timestamp() - w.waitstart)::float8 as wait_seconds
      from (select l.pid, min(l.waitstart) as waitstart
              from pg_locks as l
              join pg_stat_activity as a on a.pid = l.pid and a.datname = current_database()
             where not l.granted
             group by l.pid) as w
), involved as (
    select pid from waiting
    union
    select unnest(blocked_by) from waiting
)
select i.pid, coalesce(w.blocked_by, '{}'::int[]) as blocked_by, coalesce(w.wait_seconds, 0) as wait_seconds,
       a.datname as database, a.usename as role, a.application_name as application, a.state, a.backend_type, a.query,
       extract(epoch from clock_timestamp() - a.state_change)::float8 as state_seconds,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as transaction_seconds
  from involved as i
  left join waiting as w using (pid)
  left join pg_stat_activity as a using (pid)
 order by i.pid
