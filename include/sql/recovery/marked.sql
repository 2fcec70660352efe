-- Databases that an emergency restore has made or moved and not finished, with the mark (JSON) in their comment.
select d.oid::bigint as oid, d.datname::text as name, d.datallowconn as open,
       shobj_description(d.oid, 'pg_database') as mark
  from pg_database as d
 where shobj_description(d.oid, 'pg_database') like %(like)s
 order by d.oid
