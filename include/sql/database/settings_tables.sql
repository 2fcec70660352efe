-- Tables and their TOAST tables with autovacuum settings of their own, or with at least `min_rows` rows (as the planner
-- counts); the largest first, at most `most`, `total` counts all. `options` are the settings of their own, as an object;
-- a TOAST table goes by the name of its table. Partitioned tables hold no rows and take no such settings.
with asked as (
    select c.oid, c.relkind, greatest(c.reltuples, 0)::float8 as rows,
           c.relpages::bigint * current_setting('block_size')::bigint as bytes,
           (select jsonb_object_agg(o.option_name, o.option_value)
              from pg_options_to_table(c.reloptions) as o
             where o.option_name like 'autovacuum%%') as options
      from pg_class as c
     where c.relkind in ('r', 'm', 't') and c.relpersistence <> 't'
       and (c.reloptions is not null or c.reltuples >= %(min_rows)s)
)
select n.nspname as schema, t.relname as table, t.relkind::text as kind, a.relkind = 't' as toast, a.rows, a.bytes,
       coalesce(a.options, '{}') as options, count(*) over () as total,
       count(*) filter (where a.options is not null) over () as own
  from asked as a
  join pg_class as t on t.oid = a.oid or (a.relkind = 't' and t.reltoastrelid = a.oid)
  join pg_namespace as n on n.oid = t.relnamespace
 where t.relkind in ('r', 'm') and (a.options is not null or a.rows >= %(min_rows)s)
 order by a.options is null, a.bytes desc, a.oid
 limit %(most)s
