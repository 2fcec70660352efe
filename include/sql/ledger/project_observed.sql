-- Keep measurements and findings of one stage of a try, replacing what the same try said at that stage before.
with event as (select %(body)s::jsonb as e),
gone_measurements as (
    delete from upkeep.measurement using event where routine_run_id = %(routine_run_id)s and stage = e ->> 'stage'
),
gone_findings as (
    delete from upkeep.finding using event where routine_run_id = %(routine_run_id)s and stage = e ->> 'stage'
),
measured as (
    insert into upkeep.measurement (routine_run_id, stage, system, target, routine, name, subject, value, unit, at)
    select %(routine_run_id)s, e ->> 'stage', e ->> 'system', e -> 'routine' ->> 'target', e -> 'routine' ->> 'routine',
           m.name, m.subject, m.value, m.unit, (e ->> 'at')::timestamptz
      from event, jsonb_to_recordset(e -> 'measurements') as m(name text, subject text, value float8, unit text)
)
insert into upkeep.finding (routine_run_id, stage, key, system, target, routine, check_name, subject, severity, message,
                            observed, limit_value, hint, at)
select %(routine_run_id)s, e ->> 'stage',
       concat_ws('|', e -> 'routine' ->> 'target', e -> 'routine' ->> 'routine', f."check", f.subject),
       e ->> 'system', e -> 'routine' ->> 'target', e -> 'routine' ->> 'routine', f."check", f.subject, f.severity,
       f.message, f.observed, f."limit", f.hint, (e ->> 'at')::timestamptz
  from event, jsonb_to_recordset(e -> 'findings')
       as f("check" text, subject text, severity text, message text, observed text, "limit" text, hint text)
