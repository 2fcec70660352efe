-- The settings named in `names` (lower case) and those that wait for a restart. `setting` and `boot_val` are in `unit`
-- (8kB, ms, null: none), `shown` is the value as SHOW writes it. `source` says what it comes from, `sourcefile` (null
-- when hidden from our role, or when there is none) which file.
select name, setting, unit, vartype, context, source, sourcefile, boot_val, pending_restart,
       current_setting(name) as shown
  from pg_settings
 where lower(name) = any(%(names)s::text[]) or pending_restart
 order by name
