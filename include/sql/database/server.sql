-- One row: who asks, where, and the settings that the other answers are judged by.
-- `sees_sessions`: whether other roles' sessions and replication are visible (pg_monitor brings pg_read_all_stats).
select current_database() as database,
       current_user as role,
       pg_is_in_recovery() as in_recovery,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_sessions,
       current_setting('data_checksums') as data_checksums,
       current_setting('autovacuum_freeze_max_age')::bigint as freeze_max_age,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint as multixact_freeze_max_age
