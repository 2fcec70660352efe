-- For every target of a run: its backups on record that are not removed, and the newest one that was read back and found whole.
select b.target, count(*) as kept, max(b.recorded_at) as newest_at,
       coalesce((array_agg(b.backup_id order by b.recorded_at desc) filter (where b.verified_ok))[1], '') as proven_id,
       (array_agg(b.verified_at order by b.recorded_at desc) filter (where b.verified_ok))[1] as proven_at
  from upkeep.backup as b
 where b.removed_at is null
   and b.target in (select r.target from upkeep.routine_run as r
                     where r.dag_id = %(dag_id)s and r.run_id = %(run_id)s)
 group by b.target
