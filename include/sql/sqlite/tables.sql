-- Tables that hold rows themselves: name, number of indexes, rows when ANALYZE last looked (null: never).
select t.name, (select count(*) from sqlite_schema as i where i.type = 'index' and i.tbl_name = t.name) as indexes,
       (select max(cast(s.stat as integer)) from sqlite_stat1 as s where s.tbl = t.name) as analyzed
  from sqlite_schema as t
 where t.type = 'table' and t.rootpage > 0 and t.name not like 'sqlite\_%%' escape '\'
 order by t.name
