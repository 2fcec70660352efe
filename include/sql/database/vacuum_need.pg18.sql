-- Tables and matviews of this database that may need vacuum or analyze, with all that autovacuum decides by; sizes in
-- pages as the server last counted them, ages in ids. TOAST has its own
-- counters. Without `everything` tables are left out of which nothing is known that could need anything: no change
-- since they were last looked after, and ids younger than `share` (0 to 1) of the age at which autovacuum freezes.
-- `named` are always there. Temporary tables are their sessions' own; foreign ones are not ours.
-- From 18 on the server counts frozen pages.
with limits as (
    select current_setting('autovacuum_freeze_max_age')::float8 * %(share)s::float8 as xid,
           current_setting('autovacuum_multixact_freeze_max_age')::float8 * %(share)s::float8 as mxid
), pages as (
    select indrelid as oid, sum(relpages)::float8 as index_pages
      from pg_index join pg_class on pg_class.oid = indexrelid
     group by indrelid
), seen as (
    select c.oid, n.nspname as schema, c.relname as "table", format('%%I.%%I', n.nspname, c.relname) as name,
           n.nspname in ('pg_catalog', 'information_schema') as is_system, c.relisshared as is_shared,
           c.relkind::text as kind, c.relpages::float8 as pages, c.reltuples::float8 as tuples,
           c.relallvisible::float8 as all_visible, c.relallfrozen::float8 as all_frozen, c.reloptions as options,
           pg_stat_get_live_tuples(c.oid) as live, pg_stat_get_dead_tuples(c.oid) as dead,
           pg_stat_get_ins_since_vacuum(c.oid) as inserted, pg_stat_get_mod_since_analyze(c.oid) as modified,
           greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) as vacuumed_at,
           greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) as analyzed_at,
           age(c.relfrozenxid)::float8 as xid_age, mxid_age(c.relminmxid)::float8 as mxid_age,
           c.reltoastrelid as toast_oid, t.relpages::float8 as toast_pages, t.reltuples::float8 as toast_tuples,
           t.relallvisible::float8 as toast_all_visible, t.relallfrozen::float8 as toast_all_frozen,
           t.reloptions as toast_options, pg_stat_get_live_tuples(t.oid) as toast_live,
           pg_stat_get_dead_tuples(t.oid) as toast_dead, pg_stat_get_ins_since_vacuum(t.oid) as toast_inserted,
           greatest(pg_stat_get_last_vacuum_time(t.oid), pg_stat_get_last_autovacuum_time(t.oid)) as toast_vacuumed_at,
           age(t.relfrozenxid)::float8 as toast_xid_age, mxid_age(t.relminmxid)::float8 as toast_mxid_age
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      left join pg_class as t on t.oid = c.reltoastrelid
     where c.relkind in ('r', 'm') and c.relpersistence <> 't'
)
select seen.*, coalesce(p.index_pages, 0) as index_pages, count(*) over () as found
  from seen
  left join pages as p on p.oid = seen.oid
 cross join limits
 where %(everything)s::bool
    or dead > 0 or inserted > 0 or modified > 0 or toast_dead > 0 or toast_inserted > 0
    or xid_age > limits.xid or mxid_age > limits.mxid or toast_xid_age > limits.xid or toast_mxid_age > limits.mxid
    or options is not null or toast_options is not null
    or seen.pages > 0 and not is_system and (live = 0 or vacuumed_at is null or analyzed_at is null)
    or name = any(%(named)s::text[]) or schema || '.' || "table" = any(%(named)s::text[])
