-- Keep the report of a run; a repeated run replaces its report.
insert into upkeep.report (dag_id, run_id, html, markdown, at)
select e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', e ->> 'html', e ->> 'markdown', (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (dag_id, run_id) do update set html = excluded.html, markdown = excluded.markdown, at = excluded.at
