-- Whether this session holds the maintenance lock (a pooler may have put us on another one).
select exists (
    select from pg_locks
     where locktype = 'advisory' and pid = pg_backend_pid() and granted
       and database = (select oid from pg_database where datname = current_database())
       and classid = 7696491 and objid = 1701146625 and objsubid = 1
) as held
