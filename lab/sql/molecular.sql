CREATE TYPE order_state AS ENUM ('draft', 'sent', 'running', 'delivered', 'cancelled');
CREATE TABLE users (
  id serial PRIMARY KEY,
  name text NOT NULL,
  email text NOT NULL UNIQUE,
  role text NOT NULL CHECK (role IN ('admin', 'chemist', 'cro', 'viewer')),
  last_login timestamptz
);
INSERT INTO users (name, email, role, last_login)
SELECT pg_temp.person(i), 'chem' || i || '@example.com', pg_temp.pick(i, 1, '{chemist,chemist,chemist,cro,viewer,admin}'),
       pg_temp.today() - make_interval(mins => pg_temp.h(i, 2, 200000))
FROM generate_series(1, pg_temp.n(300)) i;

CREATE TABLE molecules (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  smiles text NOT NULL,
  inchi_key char(27) NOT NULL UNIQUE,
  mass numeric(9,4) NOT NULL,
  fingerprint bit(256) NOT NULL,
  centre point,
  properties jsonb NOT NULL,
  created_by int NOT NULL REFERENCES users
);
INSERT INTO molecules (smiles, inchi_key, mass, fingerprint, centre, properties, created_by)
SELECT repeat(pg_temp.pick(i, 3, '{C,CC,C(=O)N,c1ccccc1,CCO}'), 1 + pg_temp.h(i, 4, 6)) || pg_temp.pick(i, 5, '{O,N,F,Cl,S(=O)(=O)C}') || '[' || i % 300 || 'C]',
       upper(left(md5(i::text), 14) || '-' || left(md5('b' || i), 10) || '-N'), round((50 + 700 * pg_temp.r(i, 6))::numeric, 4),
       (('x' || md5(i::text) || md5('f' || i))::bit(256)), point(round(pg_temp.r(i, 7)::numeric, 3), round(pg_temp.r(i, 8)::numeric, 3)),
       jsonb_build_object('logp', round((8 * pg_temp.r(i, 9) - 2)::numeric, 2), 'donors', pg_temp.h(i, 10, 6), 'acceptors', pg_temp.h(i, 11, 9), 'salts', NULL),
       1 + pg_temp.h(i, 12, pg_temp.n(300))
FROM generate_series(1, pg_temp.n(20000)) i;
CREATE INDEX molecules_mass ON molecules (mass);

CREATE TABLE assays (id serial PRIMARY KEY, name text NOT NULL UNIQUE, protocol json NOT NULL, unit text NOT NULL);
INSERT INTO assays (name, protocol, unit)
SELECT 'Assay ' || i, json_build_object('steps', 3 + i % 5, 'plate', 384, 'buffer', md5(i::text)), pg_temp.pick(i, 13, '{nM,uM,percent}') FROM generate_series(1, 40) i;

CREATE TABLE assay_results (
  molecule_id bigint NOT NULL REFERENCES molecules,
  assay_id int NOT NULL REFERENCES assays,
  measured_at timestamptz NOT NULL,
  value float8,
  curve float4[],
  PRIMARY KEY (molecule_id, assay_id, measured_at)
);
INSERT INTO assay_results
SELECT 1 + pg_temp.h(i, 14, pg_temp.n(20000)), 1 + pg_temp.h(i, 15, 40), pg_temp.today() - make_interval(secs => i * 211),
       CASE WHEN i % 1000 = 0 THEN 'NaN'::float8 ELSE 1000 * pg_temp.r(i, 16) END,
       CASE WHEN i % 5 = 0 THEN ARRAY[pg_temp.r(i, 17), pg_temp.r(i, 18), pg_temp.r(i, 19)]::float4[] END
FROM generate_series(1, pg_temp.n(45000)) i;

CREATE TABLE cro_orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  ordered_by int NOT NULL REFERENCES users,
  state order_state NOT NULL,
  placed_on date NOT NULL,
  turnaround interval,
  price numeric(10,2) NOT NULL,
  contract bytea NOT NULL
);
INSERT INTO cro_orders (ordered_by, state, placed_on, turnaround, price, contract)
SELECT 1 + pg_temp.h(i, 20, pg_temp.n(300)), (enum_range(null::order_state))[1 + pg_temp.h(i, 21, 5)], pg_temp.today() - pg_temp.h(i, 22, 900),
       make_interval(days => 5 + pg_temp.h(i, 23, 40)), round((500 + 40000 * pg_temp.r(i, 24))::numeric, 2), sha512(i::text::bytea) || sha512(('c' || i)::bytea)
FROM generate_series(1, pg_temp.n(5000)) i;
CREATE TABLE order_items (
  order_id bigint NOT NULL REFERENCES cro_orders ON DELETE CASCADE,
  molecule_id bigint NOT NULL REFERENCES molecules,
  milligrams numeric(8,3) NOT NULL,
  PRIMARY KEY (order_id, molecule_id)
);
INSERT INTO order_items
SELECT 1 + i % pg_temp.n(5000), 1 + pg_temp.h(i, 25, pg_temp.n(20000)), round((0.5 + 100 * pg_temp.r(i, 26))::numeric, 3)
FROM generate_series(1, pg_temp.n(15000)) i ON CONFLICT DO NOTHING;
CREATE INDEX order_items_molecule ON order_items (molecule_id);
