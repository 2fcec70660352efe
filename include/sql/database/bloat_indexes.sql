-- B-tree indexes of at least `min_bytes`, with an estimate of the pages that a fresh build would need.
-- `pages` as of the last vacuum or analyze; `needed` is null when statistics of a column are missing or hidden from this
-- role; `repeats`: most keys occur more than once, and the server stores such keys together, which no estimate sees.
-- Method: https://github.com/ioguix/pgsql-bloat-estimation (8 bytes of item header, 4 of null bitmap where there are
-- nulls, data padded to 8 bytes, 4 of line pointer, pages of 24 bytes header and 16 bytes of tree links).
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), large as (
    select i.indexrelid as oid, i.indrelid, c.relname as index, c.relpages, c.reltuples, c.reloptions,
           i.indisunique and i.indpred is null as is_unique, i.indkey, i.indnkeyatts, i.indnatts,
           n.nspname as schema, t.relname as table, pg_relation_size(i.indexrelid) as bytes,
           current_setting('block_size')::float8 as block
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid
      join pg_am as m on m.oid = c.relam and m.amname = 'btree'
      join pg_class as t on t.oid = i.indrelid
      join pg_namespace as n on n.oid = t.relnamespace
     where c.relkind = 'i' and c.relpersistence <> 't' and i.indisvalid and i.indisready and i.indislive
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
       and i.indexrelid not in (select relation from busy) and i.indrelid not in (select relation from busy)
       and greatest(c.relpages::bigint * current_setting('block_size')::bigint,
                    pg_stat_get_live_tuples(i.indrelid) * 8) * 8 >= %(min_bytes)s
), optioned as (
    select large.*,
           coalesce((select option_value::float8 from pg_options_to_table(large.reloptions)
                      where option_name = 'fillfactor'), 90) as fillfactor,
           coalesce((select option_value::boolean from pg_options_to_table(large.reloptions)
                      where option_name = 'deduplicate_items'), true)
             and large.indnkeyatts = large.indnatts and not large.is_unique as deduplicates
      from large
     where large.bytes >= %(min_bytes)s
), sized as (
    select o.oid, count(*) = count(s.avg_width) as known,
           case when max(s.null_frac) > 0 then 12 else 8 end as header,
           sum((1 - s.null_frac) * s.avg_width) as data,
           max(case when a.attnum > o.indnkeyatts then 0
                    when s.n_distinct < 0 then -s.n_distinct * o.reltuples
                    else s.n_distinct end) as keys
      from optioned as o
      join pg_attribute as a on a.attrelid = o.oid
      left join pg_attribute as ta on ta.attrelid = o.indrelid and ta.attnum = o.indkey[a.attnum - 1] and ta.attnum <> 0
      left join lateral (
            select st.null_frac, st.avg_width, st.n_distinct
              from pg_stats as st
             where st.schemaname = o.schema and not st.inherited
               and st.tablename = case when ta.attnum is null then o.index else o.table end
               and st.attname = coalesce(ta.attname, a.attname)) as s on true
     group by o.oid
)
select o.oid::bigint as oid, o.schema, o.table, o.index, o.bytes, o.fillfactor,
       o.relpages::bigint as pages,
       case when s.known and o.reltuples >= 0 and o.relpages > 0
            then ceil(o.reltuples
                      * (4 + 8 * ceil(s.header / 8.0) + 8 * ceil(s.data / 8))
                      / ((o.block - 40) * o.fillfactor / 100)) + 1 end::float8 as needed,
       coalesce(o.deduplicates and s.keys < o.reltuples / 2, false) as repeats
  from optioned as o
  join sized as s on s.oid = o.oid
 order by o.bytes desc, o.oid
