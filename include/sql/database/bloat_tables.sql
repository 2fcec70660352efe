-- Tables of at least `min_bytes` (without indexes and TOAST), with an estimate of the pages that a rewrite would need;
-- and TOAST tables of that size, as their owner's with `toast` set: their chunks are made so that four fill a page, and
-- only the last one of a value is smaller. `pages` as of the last vacuum or analyze; `needed` is null when statistics of
-- a column are missing or hidden from this role.
-- Method: https://github.com/ioguix/pgsql-bloat-estimation (23 bytes of row header and the null bitmap, padded to
-- 8 bytes, 4 of line pointer, data padded to 8 bytes, pages of 24 bytes header, whole rows only).
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), large as (
    select c.oid, n.nspname as schema, coalesce(owner.relname, c.relname) as table, c.relkind = 't' as toast,
           c.relpages, c.reltuples,
           pg_relation_size(c.oid) as bytes, current_setting('block_size')::float8 as block,
           coalesce((select option_value::float8 from pg_options_to_table(c.reloptions)
                      where option_name = 'fillfactor'), 100) as fillfactor
      from pg_class as c
      join pg_am as m on m.oid = c.relam and m.amname = 'heap'
      left join pg_class as owner on owner.reltoastrelid = c.oid and c.relkind = 't'
      join pg_namespace as n on n.oid = coalesce(owner.relnamespace, c.relnamespace)
     where (c.relkind in ('r', 'm') or owner.relkind in ('r', 'm')) and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema')
       and c.oid not in (select relation from busy)
       and (owner.oid is null or owner.oid not in (select relation from busy))
       and greatest(c.relpages::bigint * current_setting('block_size')::bigint,
                    pg_stat_get_live_tuples(c.oid) * case when c.relkind = 't' then 1000 else 24 end) * 8
           >= %(min_bytes)s
), sized as (
    select o.oid, count(*) = count(s.avg_width) as known,
           23 + case when max(s.null_frac) > 0 then ceil(count(*) / 8.0) else 0 end as header,
           coalesce(sum((1 - s.null_frac) * s.avg_width), 0) as data
      from large as o
      join pg_attribute as a on a.attrelid = o.oid and a.attnum > 0 and not a.attisdropped
      left join lateral (
            select st.null_frac, st.avg_width
              from pg_stats as st
             where st.schemaname = o.schema and st.tablename = o.table and st.attname = a.attname
               and not st.inherited) as s on true
     where o.bytes >= %(min_bytes)s
     group by o.oid
)
select o.oid::bigint as oid, o.schema, o.table, o.toast, o.bytes, o.fillfactor, o.relpages::bigint as pages,
       case when o.toast and o.reltuples >= 0 and o.relpages > 0
            then ceil(o.reltuples / 4)
            when s.known and o.reltuples >= 0 and o.relpages > 0
            then ceil(o.reltuples
                      / greatest(1, floor((o.block - 24) * o.fillfactor / 100
                                          / (4 + 8 * ceil(s.header / 8.0) + 8 * ceil(s.data / 8)))))
       end::float8 as needed
  from large as o
  join sized as s on s.oid = o.oid
 order by o.bytes desc, o.oid
