-- Tables that somebody locks, or waits to lock, exclusively, so that their indexes of at least `min_bytes` (by the
-- planner's page counts) were not looked at: name, number of such indexes and their bytes.
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
)
select format('%%I.%%I', n.nspname, t.relname) as name, count(*) as indexes,
       sum(c.relpages::bigint * current_setting('block_size')::bigint)::bigint as bytes
  from pg_index as i
  join pg_class as c on c.oid = i.indexrelid and c.relkind = 'i' and c.relpersistence <> 't'
  join pg_class as t on t.oid = i.indrelid and t.oid >= 16384
  join pg_namespace as n on n.oid = t.relnamespace and n.nspname <> 'pg_toast'
 where (i.indexrelid in (select relation from busy) or i.indrelid in (select relation from busy))
   and c.relpages::bigint * current_setting('block_size')::bigint >= %(min_bytes)s
 group by 1
 order by 1
