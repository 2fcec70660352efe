-- What pgstattuple_approx says of tables (and the size of a block), by object id and in that order, as XML text; null
-- for those that `seconds` left no time to begin with. The extension's `schema` may be any: a function there can only be
-- named in a query made here.
with busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), chosen as materialized (
    select u.oid, u.place
      from unnest(%(oids)s::oid[]) with ordinality as u (oid, place)
      join pg_class as c on c.oid = u.oid
     where u.oid not in (select relation from busy)
     order by u.place
)
select chosen.oid::bigint as oid,
       case when clock_timestamp() < statement_timestamp() + make_interval(secs => %(seconds)s::float8)
            then query_to_xml(format('select *, pg_catalog.current_setting(''block_size'') as block_size'
                                     ' from %%I.pgstattuple_approx(%%s::pg_catalog.regclass)',
                                     %(schema)s::text, chosen.oid), false, true, '')::text end as said
  from chosen
