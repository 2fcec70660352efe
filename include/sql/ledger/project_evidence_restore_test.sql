-- Keep a restore test, and note it in the catalogue unless a later test stands there.
with event as (
    select e, t, (e ->> 'at')::timestamptz as at, e -> 'routine' ->> 'target' as target,
           coalesce(t ->> 'kind', 'dump') as kind,
           case jsonb_typeof(t -> 'phases') when 'object' then t -> 'phases' else '{}' end as phases
      from (select %(body)s::jsonb as e) as said, lateral (select e -> 'evidence' -> 'restore_test' as t) as test
     where t ->> 'id' is not null
),
noted as (
    update upkeep.backup as b
       set tested_at = event.at, tested_ok = (t ->> 'ok')::boolean
      from event
     where b.target = event.target and b.kind = event.kind and b.backup_id = t ->> 'id'
       and (b.tested_at is null or b.tested_at <= event.at)
)
insert into upkeep.restore_test (routine_run_id, number, target, kind, backup_id, system, ok, started, at, seconds,
                                 total_seconds, rto_seconds, age_seconds, rpo_seconds, differences, smoke,
                                 server_version, method, evidence)
select %(routine_run_id)s, (e ->> 'number')::integer, target, kind, t ->> 'id', e ->> 'system', (t ->> 'ok')::boolean,
       (t ->> 'started')::timestamptz, at, phases,
       coalesce((t ->> 'total_seconds')::float8, (select sum(case jsonb_typeof(value) when 'number' then value::text::float8 end)
                   from jsonb_each(phases))),
       (t ->> 'rto_seconds')::float8, (t ->> 'age_seconds')::float8, (t ->> 'rpo_seconds')::float8,
       coalesce(t -> 'differences', '[]'), coalesce(t -> 'smoke', '{}'), coalesce(t ->> 'server_version', ''),
       coalesce(t ->> 'method', ''), t
  from event
on conflict (routine_run_id, number) do update
   set ok = excluded.ok, started = excluded.started, at = excluded.at, seconds = excluded.seconds,
       total_seconds = excluded.total_seconds, age_seconds = excluded.age_seconds, differences = excluded.differences,
       smoke = excluded.smoke, backup_id = excluded.backup_id, kind = excluded.kind, evidence = excluded.evidence
