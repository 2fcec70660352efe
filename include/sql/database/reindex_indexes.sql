-- What a rebuild must know of some indexes, by object id (`oids`) or name (`names`, as SQL), and of every index that is
-- not valid. Sizes in bytes; `heap_bytes` is that of its table. What is under an ACCESS EXCLUSIVE lock is not asked for
-- its size (that would wait), the planner's page count stands in; nor for `definition` and `base`, which are null then.
-- `stem` is what the name was before REINDEX CONCURRENTLY added _ccnew or _ccold; `base` the valid index of the same
-- table and definition that bears it: long names are cut to 63 bytes, so that the base's may be longer than the stem.
-- `building`: a session is listed as building on the table and locks it, or locks the index itself.
-- `may_rebuild`: MAINTAIN counts since 17. `elsewhere`: in a tablespace other than the default one.
with held as materialized (
    select relation, pid, mode
      from pg_locks
     where locktype = 'relation' and pid is distinct from pg_backend_pid()
       and database = (select oid from pg_database where datname = current_database())
), named as materialized (
    select to_regclass(u.name)::oid as oid from unnest(%(names)s::text[]) as u (name)
), wanted as materialized (
    select i.*, i.indisvalid and i.indisready and i.indislive as valid,
           exists (select from held where relation = i.indrelid and mode = 'AccessExclusiveLock') as locked
      from pg_index as i
     where i.indexrelid = any (%(oids)s::oid[]) or i.indexrelid in (select oid from named where oid is not null)
        or not (i.indisvalid and i.indisready and i.indislive)
)
select w.indexrelid::bigint as oid, w.indrelid::bigint as table_oid,
       n.nspname as schema, c.relname as index, tn.nspname as table_schema, t.relname as table,
       format('%%I.%%I', n.nspname, c.relname) as name, format('%%I.%%I', tn.nspname, t.relname) as table_name,
       w.valid, w.indisunique as is_unique, w.indisexclusion as exclusion,
       exists (select from pg_constraint as k where k.conindid = w.indexrelid and k.contype in ('p', 'u', 'x'))
         as constrained,
       exists (select from held where relation = w.indexrelid
                  and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock'))
       or exists (select from held where relation = w.indrelid
                     and mode in ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock')
                     and pid in (select pid from pg_stat_progress_create_index)) as building,
       coalesce(case when exists (select from held where relation = w.indexrelid and mode = 'AccessExclusiveLock')
                     then c.relpages::bigint * current_setting('block_size')::bigint
                     else pg_relation_size(w.indexrelid) end, 0) as bytes,
       coalesce(case when w.locked
                     then t.relpages::bigint * current_setting('block_size')::bigint
                     else pg_relation_size(w.indrelid) end, 0) as heap_bytes,
       c.reltablespace <> 0 or d.dattablespace <> 1663 as elsewhere,
       case when not w.locked then pg_get_indexdef(w.indexrelid) end as definition,
       pg_get_userbyid(t.relowner) as owner,
       pg_has_role(t.relowner, 'usage') as may_drop,
       pg_has_role(t.relowner, 'usage')
         or current_setting('server_version_num')::int >= 170000
            and has_table_privilege(w.indrelid, case when current_setting('server_version_num')::int >= 170000
                                                     then 'maintain' else 'truncate' end) as may_rebuild,
       case when not w.valid and c.relname ~ '_cc(new|old)[0-9]*$'
            then regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') end as stem,
       base.name as base
  from wanted as w
  join pg_class as c on c.oid = w.indexrelid and c.relkind = 'i' and c.relpersistence <> 't'
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema')
  join pg_class as t on t.oid = w.indrelid and t.oid >= 16384
  join pg_namespace as tn on tn.oid = t.relnamespace
  join pg_database as d on d.datname = current_database()
  left join lateral (
       select format('%%I.%%I', n.nspname, bc.relname) as name
         from pg_index as b
         join pg_class as bc on bc.oid = b.indexrelid and bc.relam = c.relam
        where not w.valid and not w.locked and c.relname ~ '_cc(new|old)[0-9]*$'
          and b.indrelid = w.indrelid and b.indexrelid <> w.indexrelid
          and b.indisvalid and b.indisready and b.indislive
          and (bc.relname = regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '')
               or octet_length(c.relname) >= 60
                  and starts_with(bc.relname::text, regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '')))
          and b.indkey::text = w.indkey::text and b.indclass::text = w.indclass::text
          and b.indcollation::text = w.indcollation::text and b.indoption::text = w.indoption::text
          and b.indnkeyatts = w.indnkeyatts and b.indisunique = w.indisunique
          and case when not w.locked
                   then pg_get_expr(b.indexprs, b.indrelid) is not distinct from pg_get_expr(w.indexprs, w.indrelid)
                    and pg_get_expr(b.indpred, b.indrelid) is not distinct from pg_get_expr(w.indpred, w.indrelid) end
        order by bc.relname = regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') desc, bc.relname
        limit 1) as base on true
 order by bytes desc, name
