-- Indexes that no query may use (`valid`), that are not kept up to date (`ready`), or that are half dropped (`live`),
-- largest first (bytes). Those that somebody builds, rebuilds or drops at this moment are no leftovers: such a session
-- is listed as building on the table and locks it, or locks the index itself. For an index of a partitioned table:
-- its partitions and how many of them have their part.
with held as materialized (
    select relation, pid, mode
      from pg_locks
     where locktype = 'relation' and granted
       and database = (select oid from pg_database where datname = current_database())
)
select i.indexrelid::bigint as oid, n.nspname as schema, t.relname as table, c.relname as index,
       c.relkind = 'I' as partitioned, c.relispartition as attached, n.nspname = 'pg_toast' as toast,
       i.indisvalid as valid, i.indisready as ready, i.indislive as live,
       exists (select from pg_constraint as k
                where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')) as constrained,
       case when c.relkind = 'I' then 0
            when exists (select from held where relation = i.indexrelid and mode = 'AccessExclusiveLock')
            then c.relpages::bigint * current_setting('block_size')::bigint
            else coalesce(pg_relation_size(i.indexrelid), 0) end as bytes,
       (select count(*) from pg_inherits where inhparent = i.indrelid) as partitions,
       (select count(*) from pg_inherits where inhparent = i.indexrelid) as parts
  from pg_index as i
  join pg_class as c on c.oid = i.indexrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as t on t.oid = i.indrelid
 where not (i.indisvalid and i.indisready and i.indislive)
   and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
   and not exists (select from held where relation = i.indexrelid
                      and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock'))
   and not exists (select
                     from pg_stat_progress_create_index as p
                     join held on held.pid = p.pid and held.relation = i.indrelid
                    where held.mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock'))
 order by bytes desc, oid
