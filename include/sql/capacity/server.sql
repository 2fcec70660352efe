-- One row: who asks, sizes in bytes, and counters of rows written in this database since `reset_at`.
-- `server_bytes` adds up the `databases` whose size this role may know; of `hidden` others it may not. `wal_bytes` is
-- null when this role may not list pg_wal. The counters hold the server's own tables, and rows of transactions that
-- were rolled back.
-- Asked as text: the right to execute a function is looked at when a statement begins, whatever CASE says later.
with known as (
    select oid,
           has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage') as visible
      from pg_database
)
select current_database() as database,
       current_user as role,
       pg_database_size(current_database()) as bytes,
       (select sum(coalesce(pg_database_size(oid), 0))::bigint from known where visible) as server_bytes,
       (select count(*) from known where visible) as databases,
       (select count(*) from known where not visible) as hidden,
       case when has_function_privilege('pg_ls_waldir()', 'execute')
            then substring(query_to_xml('select coalesce(sum(size), 0) as bytes from pg_ls_waldir()', false, false, '')
                           ::text from '<bytes>(\d+)</bytes>')::bigint end as wal_bytes,
       s.tup_inserted as inserts, s.tup_updated as updates, s.tup_deleted as deletes, s.stats_reset as reset_at
  from pg_stat_database as s
 where s.datname = current_database()
