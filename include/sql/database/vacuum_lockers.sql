-- Who holds, or waits for, a lock on a table that keeps vacuum from it; holders first, the longest first. Process null is
-- a prepared transaction.
select l.relation as oid, l.pid, l.mode, l.granted, a.usename as role, a.application_name as application,
       a.backend_type, a.state, a.query,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds
  from pg_locks as l
  left join pg_stat_activity as a on a.pid = l.pid
 where l.locktype = 'relation' and l.relation = any(%(oids)s::oid[]) and l.pid is distinct from pg_backend_pid()
   and l.database in (0, (select oid from pg_database where datname = current_database()))
   and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
                  'AccessExclusiveLock')
 order by l.granted desc, a.xact_start nulls first
