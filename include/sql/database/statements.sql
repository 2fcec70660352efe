-- The statements of this database that took the most time in total, on average and for I/O, at most `top` of each kind;
-- no row without pg_stat_statements. Times are in milliseconds, since `since_at` (1.11 on) or `reset_at` (1.9 on), which
-- are seconds of the server's clock. `entries` counts all statements of this database, `hidden` those whose identity our
-- role may not see, `total_time` is the time of all. `dealloc` counts evictions. `search_path` is what the role has set.
-- A view in any schema, with columns named differently in every version, cannot be named here: query_to_xml() runs a
-- text under our search_path, and JSON lets every version's columns pass. JSON has no control characters, so that these
-- three replacements undo all that XML escapes.
with source as (
    select format('%%I.pg_stat_statements', n.nspname) as view, n.oid as schema,
           (select oid from pg_database where datname = current_database()) as db
      from pg_extension as e
      join pg_namespace as n on n.oid = e.extnamespace
     where e.extname = 'pg_stat_statements' and has_schema_privilege(n.oid, 'usage')
       and exists (select from pg_settings where name = 'pg_stat_statements.max' and vartype = 'integer')
), question as (
    select db, format('select json_agg(s) as j from %%s(false) as s where dbid = %%s', view, db) as entries,
           case when exists (select from pg_class where relname = 'pg_stat_statements_info' and relnamespace = schema)
                then format('select row_to_json(s) as j from %%s_info as s', view) end as info
      from source
), answer as materialized (
    select db,
           substring(query_to_xml(entries, false, false, '')::text from '<j>(.*)</j>') as entries,
           substring(query_to_xml(info, false, false, '')::text from '<j>(.*)</j>') as info
      from question
), entry as materialized (
    select userid, queryid, coalesce(toplevel, true) as toplevel, calls, rows,
           coalesce(total_exec_time, total_time) as time,
           coalesce(shared_blk_read_time, blk_read_time, 0) + coalesce(shared_blk_write_time, blk_write_time, 0)
           + coalesce(local_blk_read_time, 0) + coalesce(local_blk_write_time, 0)
           + coalesce(temp_blk_read_time, 0) + coalesce(temp_blk_write_time, 0) as io_time,
           extract(epoch from stats_since)::float8 as since_at
      from answer,
           jsonb_to_recordset(
               replace(replace(replace(entries, '&lt;', '<'), '&gt;', '>'), '&amp;', '&')::jsonb
           ) as r(userid oid, queryid bigint, toplevel boolean, calls bigint, rows bigint,
                  total_exec_time float8, total_time float8,
                  shared_blk_read_time float8, blk_read_time float8, shared_blk_write_time float8, blk_write_time float8,
                  local_blk_read_time float8, local_blk_write_time float8,
                  temp_blk_read_time float8, temp_blk_write_time float8, stats_since timestamptz)
), ranked as (
    select *, row_number() over (order by time desc) as by_time,
           row_number() over (order by time / greatest(calls, 1) desc) as by_mean,
           row_number() over (order by io_time desc) as by_io,
           count(*) over () as entries, count(*) filter (where queryid is null) over () as hidden,
           sum(time) over () as total_time
      from entry
), kept as materialized (
    select * from ranked where least(by_time, by_mean, by_io) <= %(top)s
), text as (
    select x.key, x.value
      from source,
           jsonb_each_text(replace(replace(replace(substring(query_to_xml(format(
               'select json_object_agg(userid || '':'' || queryid, left(query, 20000)) as j from %%s(true)'
               ' where dbid = %%s and queryid = any(%%L::bigint[])',
               view, db, (select array_agg(queryid)::text from kept)), false, false, '')::text from '<j>(.*)</j>'),
               '&lt;', '<'), '&gt;', '>'), '&amp;', '&')::jsonb) as x
)
select coalesce(o.rolname, '#' || k.userid) as role, o.rolname is null as role_dropped,
       k.queryid, k.toplevel, k.calls, k.rows, k.time, k.io_time, k.since_at, k.entries, k.hidden, k.total_time,
       text.value as query, length(text.value) >= 20000 as cut,
       extract(epoch from (i.info ->> 'stats_reset')::timestamptz)::float8 as reset_at,
       (i.info ->> 'dealloc')::bigint as dealloc,
       (select p.option_value
          from pg_db_role_setting as d, pg_options_to_table(d.setconfig) as p
         where p.option_name = 'search_path' and d.setrole in (k.userid, 0) and d.setdatabase in (a.db, 0)
         order by d.setrole = 0, d.setdatabase = 0
         limit 1) as search_path
  from kept as k
  cross join answer as a
  cross join lateral (select replace(a.info, '&amp;', '&')::jsonb as info) as i
  left join pg_roles as o on o.oid = k.userid
  left join text on text.key = k.userid || ':' || k.queryid
 order by k.time desc
