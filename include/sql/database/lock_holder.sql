-- Who holds the maintenance lock of this database.
select l.pid, a.application_name as application, a.usename as role
  from pg_locks as l left join pg_stat_activity as a on a.pid = l.pid
 where l.locktype = 'advisory' and l.granted and l.classid = 7696491 and l.objid = 1701146625 and l.objsubid = 1
   and l.database = (select oid from pg_database where datname = current_database())
