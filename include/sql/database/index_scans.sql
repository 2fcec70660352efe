-- Scans of indexes, by object id, as this server counted them, and the last one's time (null before 16).
select s.indexrelid::bigint as oid, s.idx_scan as scans, (to_jsonb(s) ->> 'last_idx_scan')::timestamptz as last_scan
  from pg_stat_all_indexes as s
 where s.indexrelid = any(%(oids)s::oid[])
