-- The statements of this database that took the most time in total, on average and for I/O, at most `top` of each kind;
-- no row without pg_stat_statements, and one without a `queryid` when it has counted nothing yet. Times are in
-- milliseconds, since `since_at` (1.11 on) or `reset_at` (1.9 on), which are seconds of the server's clock. `entries`
-- counts all statements of this database, `hidden` those whose identity our role may not see; `dealloc` counts
-- evictions. `search_path` is what the statement's role has set.
-- A view in any schema, with columns named differently in every version, cannot be named here: query_to_xml() runs a
-- text under our search_path, JSON lets every version's columns pass, and base64 is what XML leaves as it is.
with source as (
    select format('%%I.pg_stat_statements', n.nspname) as view,
           -- Only what belongs to the extension: others may have made a view of this name in its schema.
           exists (select
                     from pg_depend as d
                     join pg_class as c on c.oid = d.objid and d.classid = 'pg_class'::regclass
                    where d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
                      and c.relname = 'pg_stat_statements_info') as has_info,
           (select oid from pg_database where datname = current_database()) as db,
           'select encode(convert_to((%%s)::text, getdatabaseencoding()), ''base64'') as j' as encoded
      from pg_extension as e
      join pg_namespace as n on n.oid = e.extnamespace
     where e.extname = 'pg_stat_statements' and has_schema_privilege(n.oid, 'usage')
       and exists (select from pg_settings where name = 'pg_stat_statements.max' and vartype = 'integer')
), question as (
    select format(encoded, format('select json_agg(s) from %%s(false) as s where dbid = %%s', view, db)) as entries,
           case when has_info then format(encoded, format('select row_to_json(s) from %%s_info as s', view)) end as info
      from source
), answer as materialized (
    select decode(substring(query_to_xml(entries, false, false, '')::text from '<j>(.*)</j>'), 'base64') as entries,
           decode(substring(query_to_xml(info, false, false, '')::text from '<j>(.*)</j>'), 'base64') as info
      from question
), entry as materialized (
    select userid, queryid, coalesce(toplevel, true) as toplevel, calls, rows,
           coalesce(total_exec_time, total_time) as time,
           coalesce(shared_blk_read_time, blk_read_time, 0) + coalesce(shared_blk_write_time, blk_write_time, 0)
           + coalesce(local_blk_read_time, 0) + coalesce(local_blk_write_time, 0)
           + coalesce(temp_blk_read_time, 0) + coalesce(temp_blk_write_time, 0) as io_time,
           extract(epoch from stats_since)::float8 as since_at
      from answer,
           jsonb_to_recordset(convert_from(entries, getdatabaseencoding())::jsonb)
           as r(userid oid, queryid bigint, toplevel boolean, calls bigint, rows bigint,
                total_exec_time float8, total_time float8,
                shared_blk_read_time float8, blk_read_time float8, shared_blk_write_time float8, blk_write_time float8,
                local_blk_read_time float8, local_blk_write_time float8,
                temp_blk_read_time float8, temp_blk_write_time float8, stats_since timestamptz)
), ranked as (
    select *, row_number() over (order by time desc) as by_time,
           row_number() over (order by time / greatest(calls, 1) desc) as by_mean,
           case when io_time > 0 then row_number() over (order by io_time desc) end as by_io,
           count(*) over () as entries, count(*) filter (where queryid is null) over () as hidden
      from entry
), kept as materialized (
    select * from ranked where least(by_time, by_mean, by_io) <= %(top)s
), text_answer as materialized (
    select decode(substring(query_to_xml(format(encoded, format(
               'select json_object_agg(userid || '':'' || queryid, left(query, 20000)) from %%s(true)'
               ' where dbid = %%s and queryid = any(%%L::bigint[])',
               view, db, (select array_agg(queryid)::text from kept))), false, false, '')::text
               from '<j>(.*)</j>'), 'base64') as texts
      from source
), text as (
    select x.key, x.value
      from text_answer, jsonb_each_text(convert_from(texts, getdatabaseencoding())::jsonb) as x
)
select coalesce(o.rolname, '#' || k.userid) as role,
       k.queryid, k.toplevel, k.calls, k.rows, k.time, k.io_time, k.since_at,
       coalesce(k.entries, 0) as entries, coalesce(k.hidden, 0) as hidden,
       text.value as query, length(text.value) >= 20000 as cut,
       extract(epoch from (i.info ->> 'stats_reset')::timestamptz)::float8 as reset_at,
       (i.info ->> 'dealloc')::bigint as dealloc,
       (select p.option_value
          from pg_db_role_setting as d, pg_options_to_table(d.setconfig) as p
         where p.option_name = 'search_path' and d.setrole in (k.userid, 0) and d.setdatabase in (source.db, 0)
         order by d.setrole = 0, d.setdatabase = 0
         limit 1) as search_path
  from source
  cross join answer as a
  left join kept as k on true
  cross join lateral (select convert_from(a.info, getdatabaseencoding())::jsonb as info) as i
  left join pg_roles as o on o.oid = k.userid
  left join text on text.key = k.userid || ':' || k.queryid
 order by k.time desc
