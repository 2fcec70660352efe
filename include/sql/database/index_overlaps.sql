-- Indexes that another one of the same table makes needless, largest first (bytes): `duplicate`: both hold the same;
-- `redundant`: the other one (`cover`) begins with the same columns and holds all of this one's. What a constraint, a
-- replica identity or uniqueness needs is never in the list; of equals the one most needed and most used is kept.
-- Expressions and predicates are compared as the server would print them: stored trees remember where in the statement
-- each word stood. Parts of partitioned indexes are judged with the whole. Locked tables are left out.
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), constrained as (
    select distinct conindid as oid
      from pg_constraint
     where conindid <> 0
), index as materialized (
    select i.indexrelid as oid, i.indrelid, c.relname, c.relam, c.relkind, c.relpages, c.relam = b.oid as is_btree,
           i.indnkeyatts::int as keys, i.indnatts::int as columns, i.indkey::int2[] as key, i.indclass::oid[] as class,
           i.indcollation::oid[] as collation, i.indoption::int2[] as option,
           case when i.indexprs is null then '' else pg_get_expr(i.indexprs, i.indrelid) end as expressions,
           case when i.indpred is null then '' else pg_get_expr(i.indpred, i.indrelid) end as predicate,
           i.indisunique as is_unique, i.indimmediate as immediate, i.indisclustered as clustered,
           i.indisprimary or i.indisexclusion or i.indisreplident or k.oid is not null as needed
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid
      join pg_namespace as n on n.oid = c.relnamespace
      left join pg_am as b on b.amname = 'btree' and b.oid = c.relam
      left join constrained as k on k.oid = i.indexrelid
     where i.indisvalid and i.indisready and i.indislive and not c.relispartition and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
       and i.indrelid not in (select relation from busy) and i.indexrelid not in (select relation from busy)
), pair as (
    select a.oid, b.oid as cover, a.columns = b.columns and a.key = b.key as same, a.is_unique, b.is_unique as covers,
           row_number() over (partition by a.oid
                              order by a.columns = b.columns and a.key = b.key desc, b.needed desc, b.is_unique desc,
                                       pg_stat_get_numscans(b.oid) desc, b.oid) as choice
      from index as a
      join index as b on b.indrelid = a.indrelid and b.oid <> a.oid and b.relam = a.relam
     where not a.needed
       and a.predicate = b.predicate and a.expressions = b.expressions
       and a.keys <= b.keys
       and a.key[0:a.keys - 1] = b.key[0:a.keys - 1]
       and a.class[0:a.keys - 1] = b.class[0:a.keys - 1]
       and coalesce(a.collation[0:a.keys - 1] = b.collation[0:a.keys - 1], true)
       and a.option[0:a.keys - 1] = b.option[0:a.keys - 1]
       and coalesce(a.key[a.keys:a.columns - 1], '{}') <@ b.key
       and case when a.columns = b.columns and a.key = b.key
                then (a.needed, a.is_unique, a.clustered, pg_stat_get_numscans(a.oid), b.oid)
                   < (b.needed, b.is_unique, b.clustered, pg_stat_get_numscans(b.oid), a.oid)
                else a.is_btree and not a.is_unique
                     and (a.keys < b.keys or a.columns < b.columns or a.oid > b.oid) end
       -- Two that are both unique must forbid the same: at the same moment, and (15 and up) nulls alike.
       and (not a.is_unique
            or b.is_unique and a.immediate = b.immediate
               and (select to_jsonb(i) -> 'indnullsnotdistinct' from pg_index as i where i.indexrelid = a.oid)
                   is not distinct from
                   (select to_jsonb(i) -> 'indnullsnotdistinct' from pg_index as i where i.indexrelid = b.oid))
)
select a.oid::bigint as oid, n.nspname as schema, t.relname as table, a.relname as index,
       pair.cover::bigint as cover_oid, c.relname as cover, pair.same as duplicate,
       pg_stat_get_numscans(a.oid) as scans, pg_stat_get_numscans(pair.cover) as cover_scans,
       case when a.relkind = 'I' then (select coalesce(sum(pg_relation_size(part.relid)), 0)
                                         from pg_partition_tree(a.oid) as part
                                        where part.isleaf and part.relid not in (select relation from busy))
            else coalesce(pg_relation_size(a.oid), 0) end::bigint as bytes
  from pair
  join index as a on a.oid = pair.oid
  join pg_class as c on c.oid = pair.cover
  join pg_class as t on t.oid = a.indrelid
  join pg_namespace as n on n.oid = t.relnamespace
 where pair.choice = 1
 order by bytes desc, a.oid
 limit %(most)s
