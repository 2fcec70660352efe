-- Tables whose rows lie in other tables (partitioned, or inherited from), with sums over those: pages, rows, rows
-- changed since each was analyzed, and how many (`later`, with `later_tuples` rows) were analyzed well after the parent.
-- Autovacuum never analyzes a parent. Up to 17 ANALYZE of a parent does its partitions right after it, hence the hour.
with recursive tree as (
    select inhparent as parent, inhrelid as child from pg_inherits
    union
    select tree.parent, pg_inherits.inhrelid from tree join pg_inherits on pg_inherits.inhparent = tree.child
), parent as (
    select c.oid, n.nspname, c.relname, c.relkind, c.reloptions,
           greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at
      from (select distinct parent from tree) as d
      join pg_class as c on c.oid = d.parent
      join pg_namespace as n on n.oid = c.relnamespace
     where c.relkind in ('r', 'p') and c.relpersistence <> 't'
), leaf as (
    select tree.parent, c.relpages::float8 as pages, greatest(c.reltuples, 0)::float8 as tuples,
           pg_stat_get_mod_since_analyze(c.oid) as modified,
           greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at
      from tree
      join pg_class as c on c.oid = tree.child
     where c.relkind in ('r', 'm')
)
select p.oid, p.nspname as schema, p.relname as "table", format('%%I.%%I', p.nspname, p.relname) as name,
       p.relkind::text as kind, p.reloptions as options, p.analyzed_at,
       (select array_agg(above.parent) from tree as above where above.child = p.oid) as ancestors,
       sum(l.pages) as pages, sum(l.tuples) as tuples, sum(l.modified)::float8 as modified,
       count(*) filter (where l.analyzed_at > p.analyzed_at + interval '1 hour') as later,
       coalesce(sum(l.tuples) filter (where l.analyzed_at > p.analyzed_at + interval '1 hour'), 0) as later_tuples
  from parent as p
  join leaf as l on l.parent = p.oid
 group by p.oid, p.nspname, p.relname, p.relkind, p.reloptions, p.analyzed_at
