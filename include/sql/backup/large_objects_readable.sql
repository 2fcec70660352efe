-- Whether there are large objects, whether the role may read their pages, and how long a page is (bytes).
select exists (select from pg_catalog.pg_largeobject_metadata) as present,
       pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'select') as readable,
       pg_catalog.current_setting('block_size')::int / 4 as page
