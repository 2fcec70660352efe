-- Indexes of at least `min_bytes` that were not scanned since the statistics began (`scans` is 0) or, where the server
-- keeps the time of the last scan (16 and up), for `days` (if that is not 0); largest first,
-- at most `most`. `bytes` and `scans` of an index of a partitioned table are the sums over its parts; `parts` are the
-- object ids of all of them.
-- Left out is what serves without being scanned: unique and exclusion indexes, those behind a constraint or a replica
-- identity, and those that find the rows of a foreign key. `expressions`: planner statistics on them go with the index.
-- `made`: the transaction, in 64 bits, that made or last altered the index.
with recursive busy as materialized (
    select relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
), part as (
    select i.indexrelid as root, i.indexrelid as oid, i.indrelid as relation
      from pg_index as i
      join pg_class as c on c.oid = i.indexrelid
      join pg_namespace as n on n.oid = c.relnamespace
     where not c.relispartition and c.relpersistence <> 't'
       and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
       and i.indisvalid and i.indisready and i.indislive
       and not (i.indisunique or i.indisprimary or i.indisexclusion or i.indisreplident)
    union all
    select part.root, i.indexrelid, i.indrelid
      from part
      join pg_inherits as h on h.inhparent = part.oid
      join pg_index as i on i.indexrelid = h.inhrelid
), idle as (
    select part.root, sum(pg_stat_get_numscans(part.oid))::bigint as scans,
           array_agg(part.oid) as parts,
           sum(case when c.relkind = 'I' then 0
                    when part.oid in (select relation from busy) or part.relation in (select relation from busy)
                    then c.relpages::bigint * current_setting('block_size')::bigint
                    -- Asking for a size opens a file: not for each of the many that are surely small.
                    when greatest(c.relpages::bigint * current_setting('block_size')::bigint,
                                  pg_stat_get_live_tuples(part.relation) * 8) * 8 < %(min_bytes)s
                    then c.relpages::bigint * current_setting('block_size')::bigint
                    else coalesce(pg_relation_size(part.oid), 0) end)::bigint as bytes
      from part
      join pg_class as c on c.oid = part.oid
     group by part.root
), known as (
    select idle.*,
           -- The column exists from 16 on.
           (select max((to_jsonb(s) ->> 'last_idx_scan')::timestamptz)
              from pg_stat_all_indexes as s
             where s.indexrelid = any(idle.parts)) as last_scan
      from idle
     where idle.bytes >= %(min_bytes)s
)
select known.root::bigint as oid, n.nspname as schema, t.relname as table, c.relname as index,
       known.bytes, known.scans, known.last_scan, known.parts::bigint[] as parts,
       i.indexprs is not null as expressions, 
       pg_snapshot_xmax(pg_current_snapshot())::text::float8
         - (age(i.xmin)::bigint - age(pg_snapshot_xmax(pg_current_snapshot())::xid)) as made
  from known
  join pg_index as i on i.indexrelid = known.root
  join pg_class as c on c.oid = i.indexrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_class as t on t.oid = i.indrelid
 where (known.scans = 0 or %(days)s::float8 > 0 and known.last_scan < now() - make_interval(secs => %(days)s::float8 * 86400))
   and not exists (select from pg_constraint as k where k.conindid = known.root)
   and not exists (select
                     from pg_constraint as k
                    where k.contype = 'f' and k.conrelid = i.indrelid
                      and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
                      -- A partial one finds all rows only when it leaves out nothing but nulls. Of a locked table its
                      -- predicate is not read, which would wait.
                      and case when i.indpred is null or i.indrelid in (select relation from busy) then true
                               else pg_get_expr(i.indpred, i.indrelid) ~ '^\([^()]+ IS NOT NULL\)$' end)
 order by known.bytes desc, known.root
 limit %(most)s
