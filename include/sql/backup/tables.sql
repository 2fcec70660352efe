-- Every table whose rows a dump holds, largest first, with what a fingerprint of its rows must know of its columns.
-- Left out: partitioned parents (their rows are in the leaves), foreign and temporary tables, members of extensions but
-- for configuration tables, and on a standby unlogged tables. Generated columns are left out: a dump has them computed
-- anew. `bytes` counts the table with its TOAST, `writes` the rows written since the statistics were reset; `key` is the
-- primary key's column when that is one integer, `estimate` the planner's number of rows (-1: never looked at).
with recursive chain (root, typ, typmod) as (
    select t.oid, t.typbasetype, t.typtypmod from pg_catalog.pg_type as t where t.typtype = 'd'
    union all
    select chain.root, t.typbasetype, greatest(chain.typmod, t.typtypmod)
      from chain join pg_catalog.pg_type as t on t.oid = chain.typ and t.typtype = 'd'
), base as (
    -- A domain at any depth stands for the type below it.
    select chain.root, chain.typ, chain.typmod
      from chain join pg_catalog.pg_type as t on t.oid = chain.typ and t.typtype <> 'd'
), shown as (
    select c.oid, c.relname, n.nspname, c.relispartition, e.condition, c.reltuples,
           pg_catalog.row_security_active(c.oid) as hides_rows
      from pg_catalog.pg_class as c
      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
      left join pg_catalog.pg_depend as d
             on d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.objsubid = 0 and d.deptype = 'e'
      left join lateral (
               select x.extcondition[pg_catalog.array_position(x.extconfig, c.oid)] as condition
                 from pg_catalog.pg_extension as x where c.oid = any (x.extconfig)
           ) as e on true
     where c.relkind = 'r'
       and (c.relpersistence = 'p' or c.relpersistence = 'u' and not pg_catalog.pg_is_in_recovery())
       and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
       and (d.objid is null or e.condition is not null)
)
select s.oid::bigint as oid, s.nspname::text as schema, s.relname::text as name, s.condition, s.hides_rows,
       case when s.relispartition then rn.nspname::text end as root_schema,
       case when s.relispartition then r.relname::text end as root_name,
       coalesce(pg_catalog.pg_table_size(s.oid), 0) as bytes,
       pg_catalog.pg_stat_get_tuples_inserted(s.oid) + pg_catalog.pg_stat_get_tuples_updated(s.oid)
           + pg_catalog.pg_stat_get_tuples_deleted(s.oid) as writes,
       (select k.attname::text
          from pg_catalog.pg_index as i
          join pg_catalog.pg_attribute as k on k.attrelid = i.indrelid and k.attnum = i.indkey[0]
         where i.indrelid = s.oid and i.indisprimary and i.indisvalid and i.indnkeyatts = 1
           and k.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)) as key,
       s.reltuples::float8 as estimate,
       columns.seen as columns
  from shown as s
  left join pg_catalog.pg_class as r on s.relispartition and r.oid = pg_catalog.pg_partition_root(s.oid)
  left join pg_catalog.pg_namespace as rn on rn.oid = r.relnamespace
  cross join lateral (
       select coalesce(
                  pg_catalog.json_agg(
                      pg_catalog.json_build_object(
                          'name', a.attname,
                          'type', case when en.nspname = 'pg_catalog' then et.typname::text else '' end,
                          'array', t.typelem <> 0 and t.typcategory = 'A' and t.typlen = -1,
                          'typmod', greatest(a.atttypmod, b.typmod, eb.typmod, -1),
                          'loose', coalesce(not co.collisdeterministic, false)
                      ) order by a.attname::text collate "C"
                  ), '[]'::json) as seen
         from pg_catalog.pg_attribute as a
         left join base as b on b.root = a.atttypid
         join pg_catalog.pg_type as t on t.oid = coalesce(b.typ, a.atttypid)
         left join base as eb on t.typcategory = 'A' and t.typlen = -1 and eb.root = t.typelem
         join pg_catalog.pg_type as et
           on et.oid = case when t.typelem <> 0 and t.typcategory = 'A' and t.typlen = -1
                            then coalesce(eb.typ, t.typelem) else t.oid end
         join pg_catalog.pg_namespace as en on en.oid = et.typnamespace
         left join pg_catalog.pg_collation as co on co.oid = a.attcollation
        where a.attrelid = s.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  ) as columns
 order by bytes desc, s.nspname, s.relname
