-- One row: which server this is, what its statistics cover, and who copies it. `since`: the start of the statistics
-- (a crash empties them as a whole, a reset those of one database; null: not told). `standbys`: connected receivers of
-- the whole WAL whose application name does not begin with one of `not_standbys`. `xid`: the oldest transaction that
-- runs, in 64 bits: what a later one makes has a higher number. `locked`: tables that somebody locks, or waits to
-- lock, exclusively: other statements leave those out.
with busy as (
    select distinct relation
      from pg_locks
     where locktype = 'relation' and mode = 'AccessExclusiveLock'
       and database = (select oid from pg_database where datname = current_database())
)
select current_database() as database,
       current_user as role,
       pg_is_in_recovery() as in_recovery,
       (select system_identifier::text from pg_control_system()) as system,
       pg_postmaster_start_time() as started,
       now() as now,
       greatest((select stats_reset from pg_stat_database where datname = current_database()),
                least((select stats_reset from pg_stat_bgwriter), (select stats_reset from pg_stat_archiver))) as since,
       current_setting('track_counts')::boolean as counting,
       pg_snapshot_xmin(pg_current_snapshot())::text::float8 as xid,
       (select count(*)
          from pg_stat_replication as r
         where coalesce(r.state, '') <> 'backup'
           and not exists (select from unnest(%(not_standbys)s::text[]) as n where starts_with(r.application_name, n))
           and not exists (select from pg_replication_slots as s
                            where s.active_pid = r.pid and s.slot_type = 'logical')) as standbys,
       array(select format('%%I.%%I', n.nspname, c.relname)
               from busy
               join pg_class as c on c.oid = busy.relation
               join pg_namespace as n on n.oid = c.relnamespace
              where c.relkind in ('r', 'm', 'p') and n.nspname not in ('pg_catalog', 'information_schema')
              order by 1) as locked
