-- Who holds, or waits for, a lock on a table that keeps vacuum from it; holders first, the longest first. Process null is
-- a prepared transaction. To analyze a parent is to read the tables below it: who locks one of those against readers
-- counts as well, and `below` names it.
with recursive tree as (
    select unnest(%(oids)s::oid[]) as oid, false as is_below
    union
    select i.inhrelid, true from tree join pg_inherits as i on i.inhparent = tree.oid
)
select l.relation as oid, l.pid, l.mode, l.granted, a.usename as role, a.application_name as application,
       a.backend_type, a.state, a.query,
       extract(epoch from clock_timestamp() - a.xact_start)::float8 as seconds,
       case when tree.is_below then format('%%I.%%I', n.nspname, c.relname) end as below
  from tree
  join pg_locks as l on l.locktype = 'relation' and l.relation = tree.oid
   and l.database in (0, (select oid from pg_database where datname = current_database()))
  left join pg_stat_activity as a on a.pid = l.pid
  left join pg_class as c on c.oid = tree.oid
  left join pg_namespace as n on n.oid = c.relnamespace
 where l.pid is distinct from pg_backend_pid()
   and (l.mode = 'AccessExclusiveLock'
        or not tree.is_below
           and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock'))
 order by l.granted desc, a.xact_start nulls first
