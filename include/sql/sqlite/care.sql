-- One row: pages, free pages, page size in bytes, journal mode, auto_vacuum (0 none, 1 full, 2 incremental) and declared
-- foreign keys.
select p.page_count, f.freelist_count, s.page_size, j.journal_mode, a.auto_vacuum,
       (select count(*) from sqlite_schema as t, pragma_foreign_key_list(t.name) where t.type = 'table') as foreign_keys
  from pragma_page_count as p, pragma_freelist_count as f, pragma_page_size as s, pragma_journal_mode as j,
       pragma_auto_vacuum as a
