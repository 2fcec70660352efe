-- The same as large_objects, for a role that may read the objects but not pg_largeobject: through the functions for
-- large objects, one page at a time (262144 is INV_READ, 2 is SEEK_END).
with object as (
    select m.oid, pg_catalog.lo_lseek64(pg_catalog.lo_open(m.oid, 262144), 0, 2) as bytes
      from pg_catalog.pg_largeobject_metadata as m
), hashed as (
    select o.oid, o.bytes, p.content
      from object as o
      left join lateral (
               select sum(pg_catalog.hashfloat8extended(
                              pg_catalog.hash_record_extended(row(g.pageno, g.content), 0)::float8, 0)) as content
                 from (select n::int as pageno,
                              pg_catalog.rtrim(pg_catalog.lo_get(o.oid, n * %(page)s::int, %(page)s::int), '\x00'::bytea)
                                  as content
                         from pg_catalog.generate_series(0::bigint, (o.bytes - 1) / %(page)s::int) as n
                        where o.bytes > 0) as g
                where g.content <> ''
           ) as p on true
)
select count(*) as count, coalesce(sum(h.bytes), 0)::bigint as bytes,
       coalesce(sum(pg_catalog.hashfloat8extended(
                        pg_catalog.hash_record_extended(row(h.oid, h.bytes, h.content::text), 0)::float8, 0)), 0)::text as hash
  from hashed as h
