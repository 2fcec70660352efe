-- One row: pages, free pages, page size in bytes, journal mode and schema objects.
select p.page_count, f.freelist_count, s.page_size, j.journal_mode, (select count(*) from sqlite_schema) as objects
  from pragma_page_count as p, pragma_freelist_count as f, pragma_page_size as s, pragma_journal_mode as j
