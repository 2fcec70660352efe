-- The largest tables with their indexes and TOAST, in bytes, at most `top`; `total` counts all tables. Of the
-- server's own tables only that of large objects is looked at.
-- Asking every table for its size would open every file of the database, so candidates are chosen by the planner's
-- page counts and the live rows that statistics know of. Asking for the size of a table that somebody locks, or waits
-- to lock, exclusively would wait behind that lock: such a table's size is the estimate.
with pages as (
    select indrelid as oid, sum(relpages) as indexes
      from pg_index
      join pg_class on pg_class.oid = indexrelid
     group by indrelid
), candidate as (
    select c.oid, n.nspname, c.relname, count(*) over () as total,
           (c.relpages + coalesce(t.relpages, 0) + coalesce(p.indexes, 0))::bigint
             * current_setting('block_size')::bigint as estimate
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      left join pg_class as t on t.oid = c.reltoastrelid
      left join pages as p on p.oid = c.oid
     where c.relkind in ('r', 'm') and c.relpersistence <> 't'
       and (n.nspname not in ('pg_catalog', 'information_schema') or c.relname = 'pg_largeobject' and c.relpages > 0)
     order by greatest((c.relpages + coalesce(t.relpages, 0) + coalesce(p.indexes, 0))::float8 * 8192,
                       pg_stat_get_live_tuples(c.oid) * 64.0) desc, c.oid
     limit %(top)s * 4
), busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
)
select format('%%I.%%I', nspname, relname) as name, total,
       coalesce(case when oid in (select relation from busy) then estimate
                     else pg_total_relation_size(oid) end, 0) as bytes
  from candidate
 order by bytes desc, name
 limit %(top)s
