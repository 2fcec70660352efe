-- Prepared transactions of this database that are older than a limit (seconds), the oldest first, at most `top`;
-- `total` counts them all. Each keeps its locks, and rows from being vacuumed, until someone ends it.
select gid, coalesce(owner, 'dropped role') as role, extract(epoch from clock_timestamp() - prepared)::float8 as seconds,
       age(transaction) as xid_age, count(*) over () as total
  from pg_prepared_xacts
 where database = current_database() and clock_timestamp() - prepared > make_interval(secs => %(seconds)s)
 order by prepared
 limit %(top)s
