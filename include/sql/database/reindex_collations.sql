-- Indexes of this database's tables that are sorted by a collation whose rules have changed since (an upgrade of the
-- operating system or of ICU): recorded and actual version, and how many such indexes there are. At most `most`.
-- https://www.postgresql.org/docs/current/sql-altercollation.html#SQL-ALTERCOLLATION-NOTES
with used as materialized (
    select distinct i.indexrelid as oid, k.coll
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid and c.relkind = 'i' and c.relpersistence <> 't'
     cross join lateral unnest(i.indcollation::oid[]) as k (coll)
     where i.indrelid >= 16384 and k.coll not in (0, 950, 951)
       and i.indisvalid and i.indisready and i.indislive
), changed as materialized (
    select c.oid, format('%%I.%%I', n.nspname, c.collname) as collation, c.collversion as recorded,
           pg_collation_actual_version(c.oid) as actual, 'COLLATION' as kind
      from pg_collation as c
      join pg_namespace as n on n.oid = c.collnamespace
     where c.collversion is not null and c.oid in (select coll from used)
)
select u.oid::bigint as oid, c.collation, c.recorded, c.actual, c.kind,
       count(*) over (partition by c.oid) as total
  from changed as c
  join used as u on u.coll = c.oid
 where c.recorded <> c.actual
 order by c.collation, u.oid
 limit %(most)s
