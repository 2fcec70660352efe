-- Sequences by the part of their values that is used up, the fullest first, at most `top`.
-- A sequence ends at its own limit or at that of the column it fills, whichever comes first; the columns are those that
-- own it and those whose default draws from it. It may run downwards. One that cycles has no end.
-- `total`, `crossed` (above `least`) and `hidden` (may not be read by this role) count all sequences;
-- `hidden_schemas` names their schemas, quoted.
with filled as (
    select d.objid as sequence, d.refobjid as attrelid, d.refobjsubid as attnum
      from pg_depend as d
     where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
       and d.deptype in ('a', 'i') and d.refobjsubid > 0
    union
    select d.refobjid, def.adrelid, def.adnum
      from pg_depend as d
      join pg_attrdef as def on d.classid = 'pg_attrdef'::regclass and def.oid = d.objid
     where d.refclassid = 'pg_class'::regclass
), width as (
    select f.sequence, min(case coalesce(nullif(t.typbasetype, 0), t.oid)
                             when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 end) as most
      from filled as f
      join pg_attribute as a on a.attrelid = f.attrelid and a.attnum = f.attnum and not a.attisdropped
      join pg_type as t on t.oid = a.atttypid
     group by f.sequence
), sequence as (
    select n.nspname, c.relname, s.seqincrement > 0 as upwards, s.seqstart::float8 as first,
           case when s.seqincrement > 0 then least(s.seqmax, w.most)
                else greatest(s.seqmin, -w.most - 1) end::float8 as last,
           has_sequence_privilege(c.oid, 'select,usage') as visible,
           case when has_sequence_privilege(c.oid, 'select,usage')
                then pg_sequence_last_value(c.oid)::float8 end as value
      from pg_sequence as s
      join pg_class as c on c.oid = s.seqrelid
      join pg_namespace as n on n.oid = c.relnamespace
      left join width as w on w.sequence = s.seqrelid
     where not s.seqcycle and c.relpersistence <> 't'
       and (c.relpersistence = 'p' or not pg_is_in_recovery())
), used as (
    select *, case when value is null then 0
                   when last = first then 1
                   else least(1, greatest(0, (value - first) / (last - first))) end as ratio
      from sequence
)
select format('%%I.%%I', nspname, relname) as name, ratio, value, last,
       count(*) over () as total,
       count(*) filter (where ratio > %(least)s::float8) over () as crossed,
       count(*) filter (where not visible) over () as hidden,
       (select array_agg(distinct quote_ident(nspname) order by quote_ident(nspname)) from sequence where not visible)
         as hidden_schemas
  from used
 order by ratio desc, name
 limit %(top)s
