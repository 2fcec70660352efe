-- The largest indexes in bytes, at most `top`, chosen by the planner's page counts. The size of one that somebody
-- locks exclusively (REINDEX), or waits to lock, is the estimate: asking would wait behind that lock.
with candidate as (
    select c.oid, n.nspname, c.relname, i.indrelid, c.relpages * current_setting('block_size')::int8 as estimate
      from pg_class as c
      join pg_index as i on i.indexrelid = c.oid
      join pg_namespace as n on n.oid = c.relnamespace
     where c.relkind = 'i' and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
     order by c.relpages desc, c.oid
     limit %(top)s
), busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
)
select format('%%I.%%I', nspname, relname) as name,
       coalesce(case when oid in (select relation from busy) then estimate else pg_relation_size(oid) end, 0) as bytes
  from candidate
 order by bytes desc, name
