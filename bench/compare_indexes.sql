-- Tables whose indexes `bench.compare` has reviewed. `--: name, what it is` begins one. `-- called: check index` says what
-- must be called out, `-- used: index: rest of a query` how an index is scanned once, so that nobody calls it unused.

--: same, two of the same
CREATE TABLE same (a int, b int);
CREATE INDEX same_1 ON same (a);
CREATE INDEX same_2 ON same (a);
-- called: duplicate same_2
-- used: same_1: WHERE a = 1

--: pk_again, the primary key once more
CREATE TABLE pk_again (id int PRIMARY KEY);
CREATE INDEX pk_again_id ON pk_again (id);
-- called: duplicate pk_again_id

--: expression, one expression and one predicate, twice
CREATE TABLE expression (a text, b int);
CREATE INDEX expression_1 ON expression (lower(a)) WHERE b > 0;
CREATE INDEX expression_2 ON expression (lower(a)) WHERE (b > 0);
-- called: duplicate expression_2
-- used: expression_1: WHERE lower(a) = 'x' AND b > 0

--: plain_unique, a unique one and a plain one: the plain one goes
CREATE TABLE plain_unique (a int);
CREATE INDEX plain_unique_plain ON plain_unique (a);
CREATE UNIQUE INDEX plain_unique_unique ON plain_unique (a);
-- called: duplicate plain_unique_plain

--: prefix, the beginning of a wider one
CREATE TABLE prefix (a int, b int);
CREATE INDEX prefix_a ON prefix (a);
CREATE INDEX prefix_a_b ON prefix (a, b);
-- called: redundant prefix_a
-- used: prefix_a: WHERE a = 1
-- used: prefix_a_b: WHERE a = 1

--: prefix_key, the beginning of a constraint's
CREATE TABLE prefix_key (a int, b int, UNIQUE (a, b));
CREATE INDEX prefix_key_a ON prefix_key (a);
-- called: redundant prefix_key_a
-- used: prefix_key_a: WHERE a = 1

--: broken, a build that failed
CREATE TABLE broken (a int);
INSERT INTO broken VALUES (1), (1);
\fails CREATE UNIQUE INDEX CONCURRENTLY broken_a ON broken (a);
-- called: invalid broken_a

--: idle, never scanned
CREATE TABLE idle (a int, b int);
CREATE INDEX idle_a ON idle (a);
CREATE INDEX idle_b ON idle (b);
-- called: unused idle_b
-- used: idle_a: WHERE a = 1

--: idle_parts, never scanned in any partition
CREATE TABLE idle_parts (a int, b int) PARTITION BY RANGE (a);
CREATE INDEX idle_parts_a ON idle_parts (a);
CREATE INDEX idle_parts_b ON idle_parts (b);
CREATE TABLE idle_part PARTITION OF idle_parts DEFAULT;
INSERT INTO idle_parts VALUES (1, 1);
-- called: unused idle_parts_b
-- used: idle_parts_a: WHERE a = 1

--: child, foreign keys with and without an index
CREATE TABLE parent (id int PRIMARY KEY, x int, y int, UNIQUE (x, y));
INSERT INTO parent VALUES (1, 1, 1);
CREATE TABLE child (lone int CONSTRAINT child_lone REFERENCES parent, own int REFERENCES parent, x int, y int,
                    late int CONSTRAINT child_late REFERENCES parent, kept int REFERENCES parent,
                    FOREIGN KEY (x, y) REFERENCES parent (x, y));
CREATE INDEX child_own ON child (own);
CREATE INDEX child_y_x ON child (y, x);
CREATE INDEX child_late_part ON child (late) WHERE lone > 0;
CREATE INDEX child_kept ON child (kept) WHERE kept IS NOT NULL;
INSERT INTO child VALUES (1, 1, 1, 1, 1, 1);
-- called: foreign_key child.child_lone
-- called: foreign_key child.child_late
-- called: unused child_late_part

--: twice, look-alike: two constraints want the same
CREATE TABLE twice (a int, UNIQUE (a), CONSTRAINT twice_again UNIQUE (a));

--: classes, look-alike: another operator class
CREATE TABLE classes (a text);
CREATE INDEX classes_1 ON classes (a);
CREATE INDEX classes_2 ON classes (a text_pattern_ops);
-- used: classes_1: WHERE a = 'x'
-- used: classes_2: WHERE a = 'x'

--: collations, look-alike: another collation
CREATE TABLE collations (a text);
CREATE INDEX collations_1 ON collations (a);
CREATE INDEX collations_2 ON collations (a COLLATE "POSIX");
-- used: collations_1: WHERE a = 'x'
-- used: collations_2: WHERE a = 'x' COLLATE "POSIX"

--: predicates, look-alike: another predicate
CREATE TABLE predicates (a int, b int);
CREATE INDEX predicates_1 ON predicates (a) WHERE b > 0;
CREATE INDEX predicates_2 ON predicates (a) WHERE b < 0;
CREATE INDEX predicates_3 ON predicates (a, b) WHERE b = 0;
-- used: predicates_1: WHERE a = 1 AND b > 0
-- used: predicates_2: WHERE a = 1 AND b < 0
-- used: predicates_3: WHERE a = 1 AND b = 0

--: orders, look-alike: another order
CREATE TABLE orders (a int, b int);
CREATE INDEX orders_1 ON orders (a, b);
CREATE INDEX orders_2 ON orders (a, b DESC);
CREATE INDEX orders_3 ON orders (b, a);
-- used: orders_1: WHERE a = 1
-- used: orders_2: WHERE a = 1
-- used: orders_3: WHERE b = 1

--: down, look-alike: descending
CREATE TABLE down (a int);
CREATE INDEX down_1 ON down (a);
CREATE INDEX down_2 ON down (a DESC);
-- used: down_1: WHERE a = 1
-- used: down_2: WHERE a = 1

--: methods, look-alike: another method
CREATE TABLE methods (a int);
CREATE INDEX methods_1 ON methods (a);
CREATE INDEX methods_2 ON methods USING hash (a);
-- used: methods_1: WHERE a = 1
-- used: methods_2: WHERE a = 1

--: included, look-alike: other columns beside the key
CREATE TABLE included (a int, b int, c int);
CREATE INDEX included_1 ON included (a) INCLUDE (b);
CREATE INDEX included_2 ON included (a) INCLUDE (c);
-- used: included_1: WHERE a = 1
-- used: included_2: WHERE a = 1

--: narrow_unique, look-alike: the beginning of a wider one, but unique
CREATE TABLE narrow_unique (a int, b int);
CREATE UNIQUE INDEX narrow_unique_a ON narrow_unique (a);
CREATE INDEX narrow_unique_a_b ON narrow_unique (a, b);
-- used: narrow_unique_a_b: WHERE a = 1

--: identity, look-alike: never scanned, and the replica identity
CREATE TABLE identity (a int NOT NULL);
CREATE UNIQUE INDEX identity_a ON identity (a);
ALTER TABLE identity REPLICA IDENTITY USING INDEX identity_a;

--: excluded, look-alike: never scanned, and keeps others out
CREATE TABLE excluded (a int, EXCLUDE USING btree (a WITH =));
