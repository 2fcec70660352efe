-- Lines of the configuration files that have an error, or name a setting that waits for a restart, in the order in which
-- they are applied; nothing when our role may not read them (superusers may, and who is granted both view and function).
-- A view that is closed to us cannot be named here: query_to_xml() runs a text that is made only where it is open, and
-- base64 is what XML leaves as it is.
with answer as materialized (
    select decode(substring(query_to_xml(
               'select encode(convert_to((select json_agg(f) from pg_file_settings as f)::text,'
               ' getdatabaseencoding()), ''base64'') as j', false, false, '')::text from '<j>(.*)</j>'), 'base64') as lines
     where has_function_privilege('pg_show_all_file_settings()', 'execute')
       and has_table_privilege('pg_file_settings', 'select')
)
select f.sourcefile, f.sourceline, f.name, f.setting, f.applied, f.error, coalesce(s.pending_restart, false) as pending
  from answer,
       jsonb_to_recordset(convert_from(lines, getdatabaseencoding())::jsonb)
       as f(sourcefile text, sourceline int, seqno int, name text, setting text, applied boolean, error text)
  left join pg_settings as s on lower(s.name) = lower(f.name)
 where f.error is not null or s.pending_restart
 order by f.seqno
