-- Open the row of a run; opening it again (a retried first step) keeps the first opening time.
insert into upkeep.run (dag_id, run_id, cadence, run_type, window_start, window_end, params, opened_at)
select e -> 'run' ->> 'dag_id', e -> 'run' ->> 'run_id', e ->> 'cadence', e ->> 'run_type',
       (e ->> 'window_start')::timestamptz, (e ->> 'window_end')::timestamptz, e -> 'params', (e ->> 'at')::timestamptz
  from (select %(body)s::jsonb as e) as event
on conflict (dag_id, run_id) do update set params = excluded.params, closed_at = null, verdict = null, reasons = null
