-- Tables and indexes whose bloat `bench.compare` looks at. `--: name, what it is: relations` begins a case; `x:toast` is
-- the TOAST table of x. What a statement that ends in \gexec returns is executed. The table of the case's name is
-- analyzed at its end, but where it says `(never)`.

--: fresh, new: fresh fresh_pkey
CREATE TABLE fresh (id int PRIMARY KEY, a text, b text);
INSERT INTO fresh SELECT g, md5(g::text), md5(g::text) FROM generate_series(1, 30000) AS g;

--: narrow, rows of 2 bytes: narrow
CREATE TABLE narrow (a smallint);
INSERT INTO narrow SELECT 1 FROM generate_series(1, 80000);

--: wide, rows of 1.3 kB: wide
CREATE TABLE wide (a text, b text, c text, d text);
INSERT INTO wide SELECT repeat(m, 10), repeat(m, 10), repeat(m, 10), repeat(m, 10)
  FROM (SELECT md5(g::text) AS m FROM generate_series(1, 3000) AS g) AS x;

--: half_page, rows of 4.8 kB (one a page): half_page
SELECT format('CREATE TABLE half_page (%s)', string_agg(format('c%s float8', n), ', ')) FROM generate_series(1, 600) AS n \gexec
SELECT format('INSERT INTO half_page SELECT %s FROM generate_series(1, 500)', string_agg('1', ', ')) FROM generate_series(1, 600) \gexec

--: half_page_deleted, the same and half of it deleted: half_page_deleted
CREATE TABLE half_page_deleted AS SELECT * FROM half_page;
DELETE FROM half_page_deleted WHERE hashtid(ctid) % 2 = 0;
VACUUM half_page_deleted;

--: columns, 200 columns: columns
SELECT format('CREATE TABLE columns (%s)', string_agg(format('c%s int', n), ', ')) FROM generate_series(1, 200) AS n \gexec
SELECT format('INSERT INTO columns SELECT %s FROM generate_series(1, 4000) AS g', string_agg('g', ', ')) FROM generate_series(1, 200) \gexec

--: nulls, 20 columns with nine of ten null: nulls
SELECT format('CREATE TABLE nulls (%s)', string_agg(format('c%s text', n), ', ')) FROM generate_series(1, 20) AS n \gexec
SELECT format('INSERT INTO nulls SELECT %s FROM generate_series(1, 30000) AS g', string_agg(format('CASE WHEN (g + %s) %% 10 = 0 THEN md5(g::text) END', n), ', ')) FROM generate_series(1, 20) AS n \gexec

--: padded, bool and bigint in turn: padded
SELECT format('CREATE TABLE padded (%s)', string_agg(format('f%s bool, n%s bigint', n, n), ', ')) FROM generate_series(1, 6) AS n \gexec
SELECT format('INSERT INTO padded SELECT %s FROM generate_series(1, 30000) AS g', string_agg('true, g', ', ')) FROM generate_series(1, 6) \gexec

--: names, columns of type name: names
CREATE TABLE names (a name, b name);
INSERT INTO names SELECT md5(g::text), md5(g::text) FROM generate_series(1, 30000) AS g;

--: loose50, new with fillfactor 50: loose50
CREATE TABLE loose50 (id int, a text, b text) WITH (fillfactor = 50);
INSERT INTO loose50 SELECT * FROM fresh;

--: loose70, new with fillfactor 70: loose70
CREATE TABLE loose70 (id int, a text, b text) WITH (fillfactor = 70);
INSERT INTO loose70 SELECT * FROM fresh;

--: loose70_deleted, fillfactor 70 and 80 % deleted: loose70_deleted
CREATE TABLE loose70_deleted (id int, a text, b text) WITH (fillfactor = 70);
INSERT INTO loose70_deleted SELECT * FROM fresh;
DELETE FROM loose70_deleted WHERE id % 5 > 0;
VACUUM loose70_deleted;

--: half_deleted, 50 % deleted at random: half_deleted
CREATE TABLE half_deleted AS SELECT * FROM fresh;
DELETE FROM half_deleted WHERE hashint4(id) % 2 = 0;
VACUUM half_deleted;

--: deleted, 90 % deleted at random: deleted deleted_id
CREATE TABLE deleted AS SELECT g AS id, md5(g::text) AS a FROM generate_series(1, 80000) AS g;
CREATE UNIQUE INDEX deleted_id ON deleted (id);
DELETE FROM deleted WHERE hashint4(id) % 10 <> 0;
VACUUM deleted;

--: end_deleted, 90 % deleted at the end: end_deleted
CREATE TABLE end_deleted AS SELECT * FROM fresh;
DELETE FROM end_deleted WHERE id > 3000;
VACUUM end_deleted;

--: dead, 90 % deleted and not vacuumed: dead
CREATE TABLE dead AS SELECT * FROM fresh;
DELETE FROM dead WHERE id % 10 > 0;

--: stale, analyzed and then 90 % deleted (never): stale
CREATE TABLE stale AS SELECT * FROM fresh;
ANALYZE stale;
DELETE FROM stale WHERE id % 10 > 0;

--: updated, all rows updated three times: updated
CREATE TABLE updated AS SELECT * FROM fresh;
UPDATE updated SET a = b || id;
UPDATE updated SET a = b || id;
UPDATE updated SET a = b || id;
VACUUM updated;

--: toast, new with 6 kB outside of each row: toast toast:toast
CREATE TABLE toast (id int, a text);
INSERT INTO toast SELECT g, (SELECT string_agg(md5((g * 1000 + n)::text), '') FROM generate_series(1, 190) AS n)
  FROM generate_series(1, 500) AS g;

--: toast_deleted, the same and 90 % deleted: toast_deleted toast_deleted:toast
CREATE TABLE toast_deleted AS SELECT * FROM toast;
DELETE FROM toast_deleted WHERE id % 10 > 0;
VACUUM toast_deleted;

--: unanalyzed, new and not analyzed (never): unanalyzed
CREATE TABLE unanalyzed AS SELECT * FROM fresh;
VACUUM unanalyzed;

--: unanalyzed_deleted, 90 % deleted and not analyzed (never): unanalyzed_deleted
CREATE TABLE unanalyzed_deleted AS SELECT * FROM fresh;
DELETE FROM unanalyzed_deleted WHERE id % 10 > 0;
VACUUM unanalyzed_deleted;

--: dropped, a column dropped and 80 % deleted: dropped
CREATE TABLE dropped AS SELECT * FROM fresh;
ALTER TABLE dropped DROP COLUMN b;
DELETE FROM dropped WHERE id % 5 > 0;
VACUUM dropped;

--: matview, all rows refreshed three times: matview
CREATE TABLE origin AS SELECT * FROM fresh;
CREATE MATERIALIZED VIEW matview AS SELECT * FROM origin;
CREATE UNIQUE INDEX ON matview (id);
UPDATE origin SET a = a || '.';
REFRESH MATERIALIZED VIEW CONCURRENTLY matview;
UPDATE origin SET a = a || '.';
REFRESH MATERIALIZED VIEW CONCURRENTLY matview;
VACUUM matview;

--: parts, one of two partitions 90 % deleted: part_1 part_2
CREATE TABLE parts (id int, a text, b text) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (40000);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (40000) TO (80000);
INSERT INTO parts SELECT * FROM fresh;
INSERT INTO parts SELECT id + 40000, a, b FROM fresh;
DELETE FROM part_1 WHERE id % 10 > 0;
VACUUM part_1;

--: heir, the child 90 % deleted and the parent not: heritage heir
CREATE TABLE heritage AS SELECT * FROM fresh;
CREATE TABLE heir () INHERITS (heritage);
INSERT INTO heir SELECT * FROM fresh;
ANALYZE heritage;
DELETE FROM heir WHERE id % 10 > 0;
VACUUM heir;

--: tiny, 10 rows of which 9 are deleted: tiny
CREATE TABLE tiny AS SELECT generate_series(1, 10) AS id;
DELETE FROM tiny WHERE id > 1;

--: empty, no rows at all: empty empty_pkey
CREATE TABLE empty (id int PRIMARY KEY);

--: queue, 95 % deleted at the beginning: queue_id
CREATE TABLE queue (id int, d date);
CREATE UNIQUE INDEX queue_id ON queue (id);
INSERT INTO queue SELECT g, '2026-01-01' FROM generate_series(1, 80000) AS g;
DELETE FROM queue WHERE id < 76000;
VACUUM queue;

--: many, keys that occur 8,000 times: many_kind
CREATE TABLE many (id int, kind int);
CREATE INDEX many_kind ON many (kind);
INSERT INTO many SELECT g, g % 25 FROM generate_series(1, 200000) AS g;

--: many_deleted, the same and 95 % deleted: many_deleted_kind
CREATE TABLE many_deleted AS SELECT * FROM many;
CREATE INDEX many_deleted_kind ON many_deleted (kind);
DELETE FROM many_deleted WHERE hashint4(id) % 20 <> 0;
VACUUM many_deleted;

--: uuids, keys in random order: uuids_key
CREATE TABLE uuids (key uuid);
CREATE UNIQUE INDEX uuids_key ON uuids (key);
INSERT INTO uuids SELECT md5(g::text)::uuid FROM generate_series(1, 70000) AS g;

--: texts, index on text and with more columns: texts_a texts_b_id
CREATE TABLE texts AS SELECT * FROM fresh;
CREATE INDEX texts_a ON texts (a);
CREATE INDEX texts_b_id ON texts (b) INCLUDE (id);

--: broad, int index of rows of 0.3 kB and 90 % deleted: broad_id
CREATE TABLE broad AS SELECT g AS id, repeat('x', 300) AS a FROM generate_series(1, 70000) AS g;
CREATE UNIQUE INDEX broad_id ON broad (id);
DELETE FROM broad WHERE hashint4(id) % 10 <> 0;
VACUUM broad;

--: partial, index of one row in ten and on an expression: partial_id expression_a
CREATE TABLE partial AS SELECT * FROM fresh;
CREATE INDEX partial_id ON partial (id) WHERE id % 10 = 0;
CREATE INDEX expression_a ON partial (upper(a));

--: partial_deleted, on an expression and 90 % deleted: expression_deleted
CREATE TABLE partial_deleted AS SELECT * FROM fresh;
CREATE INDEX expression_deleted ON partial_deleted (upper(a));
DELETE FROM partial_deleted WHERE id % 10 > 0;
VACUUM partial_deleted;

--: unknown_expression, on an expression and not analyzed (never): unknown_expression_a
CREATE TABLE unknown_expression AS SELECT * FROM fresh;
ANALYZE unknown_expression;
CREATE INDEX unknown_expression_a ON unknown_expression (upper(a));

--: others, new gin and gist and brin and hash: others_gin others_gist others_brin others_hash
CREATE TABLE others AS SELECT g AS id, ARRAY[g, g + 1, g + 2] AS list, point(g, g) AS place
  FROM generate_series(1, 30000) AS g;
CREATE INDEX others_gin ON others USING gin (list);
CREATE INDEX others_gist ON others USING gist (place);
CREATE INDEX others_brin ON others USING brin (id);
CREATE INDEX others_hash ON others USING hash (id);

--: keys, new gin of 30 keys a row: keys_gin
CREATE TABLE keys AS SELECT ARRAY(SELECT hashint4(g * 30 + n) FROM generate_series(1, 30) AS n) AS list
  FROM generate_series(1, 5000) AS g;
CREATE INDEX keys_gin ON keys USING gin (list);

--: others_deleted, 95 % deleted: deleted_gin deleted_gist deleted_hash
CREATE TABLE others_deleted AS SELECT * FROM others;
CREATE INDEX deleted_gin ON others_deleted USING gin (list);
CREATE INDEX deleted_gist ON others_deleted USING gist (place);
CREATE INDEX deleted_hash ON others_deleted USING hash (id);
DELETE FROM others_deleted WHERE hashint4(id) % 20 <> 0;
VACUUM others_deleted;
