-- Count, bytes and content hash of all large objects, read from the catalogue page by page (needs SELECT on
-- pg_largeobject). Zero bytes at a page's end are cut off and pages of nothing else are left out: a hole in a sparse
-- object reads as zeros, and a restored copy has them written out.
with page as (
    select l.loid, l.pageno, pg_catalog.length(l.data) as length,
           pg_catalog.rtrim(l.data, '\x00'::bytea) as content
      from pg_catalog.pg_largeobject as l
), object as (
    select p.loid,
           max(p.pageno::bigint * %(page)s::int + p.length) as bytes,
           sum(pg_catalog.hashfloat8extended(
                   pg_catalog.hash_record_extended(row(p.pageno, p.content), 0)::float8, 0))
               filter (where p.content <> '') as content
      from page as p group by p.loid
)
select count(*) as count,
       coalesce(sum(coalesce(o.bytes, 0)), 0)::bigint as bytes,
       coalesce(sum(pg_catalog.hashfloat8extended(
                        pg_catalog.hash_record_extended(row(m.oid, coalesce(o.bytes, 0), o.content::text), 0)::float8, 0
                    )), 0)::text as hash
  from pg_catalog.pg_largeobject_metadata as m left join object as o on o.loid = m.oid
