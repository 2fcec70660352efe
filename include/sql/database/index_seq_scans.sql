-- Tables of more than `min_rows` live rows, those first of which most rows were read by sequential scans, at most
-- `most`: how often each was read as a whole, the rows read that way, and how often one of its indexes was scanned.
-- All three count since the statistics began; only their growth says anything.
with large as (
    select c.oid, n.nspname, c.relname, pg_stat_get_live_tuples(c.oid) as live,
           pg_stat_get_numscans(c.oid) as scans, pg_stat_get_tuples_returned(c.oid) as read
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
     where c.relkind in ('r', 'm') and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema')
       and pg_stat_get_live_tuples(c.oid) > %(min_rows)s
     order by read desc, c.oid
     limit %(most)s
)
select nspname as schema, relname as table, live, scans, read,
       coalesce((select sum(pg_stat_get_numscans(i.indexrelid)) from pg_index as i
                  where i.indrelid = large.oid), 0)::bigint as index_scans
  from large
