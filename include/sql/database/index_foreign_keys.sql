-- Foreign keys whose table, of at least `min_bytes`, has no index that begins with their columns (in any order): every
-- delete of a referenced row, and every change of its key, then reads that whole table. `bytes` as the planner counts
-- pages, with all partitions; `deletes`: rows deleted from the referenced table since the statistics began. Largest
-- first, at most `most`. A partial index serves only when it leaves out nothing but nulls; one of
-- a locked table is taken to, since reading its predicate would wait.
with recursive busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), part as (
    select k.oid as root, k.conrelid as oid
      from pg_constraint as k
     where k.contype = 'f' and k.conparentid = 0
    union
    select part.root, h.inhrelid
      from part
      join pg_class as p on p.oid = part.oid and p.relkind = 'p'
      join pg_inherits as h on h.inhparent = part.oid
), sized as (
    select part.root, sum(c.relpages::bigint)::bigint * current_setting('block_size')::bigint as bytes
      from part
      join pg_class as c on c.oid = part.oid
     where c.relkind <> 'p'
     group by part.root
    having sum(c.relpages::bigint) * current_setting('block_size')::bigint >= %(min_bytes)s
)
select n.nspname as schema, c.relname as table, c.relkind = 'p' as partitioned, k.conname as name,
       format('%%I.%%I', rn.nspname, r.relname) as referenced,
       array(select a.attname::text
               from unnest(k.conkey) with ordinality as u (number, place)
               join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.number
              order by u.place) as columns,
       sized.bytes, pg_stat_get_tuples_deleted(k.confrelid) as deletes
  from sized
  join pg_constraint as k on k.oid = sized.root
  join pg_class as c on c.oid = k.conrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as r on r.oid = k.confrelid
  join pg_namespace as rn on rn.oid = r.relnamespace
 where not exists (select
                     from pg_index as i
                     join pg_class as x on x.oid = i.indexrelid
                     join pg_am as m on m.oid = x.relam
                    where i.indrelid = k.conrelid and i.indisvalid
                      and m.amname in ('btree', 'hash')
                      and case when i.indpred is null or i.indrelid in (select relation from busy) then true
                               else pg_get_expr(i.indpred, i.indrelid) ~ '^\([^()]+ IS NOT NULL\)$' end
                      and cardinality(k.conkey) <= i.indnkeyatts
                      and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)
 order by sized.bytes desc, k.oid
 limit %(most)s
