-- What a database holds now: tables, rows as the server estimates them, rows written since its counters were reset.
select count(*) as tables, coalesce(sum(n_live_tup), 0)::bigint as rows,
       coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint as writes,
       (select stats_reset from pg_stat_database where datname = current_database()) as counted_since
  from pg_stat_user_tables
