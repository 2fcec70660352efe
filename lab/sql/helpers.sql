-- Deterministic data without random(): every value is a hash of its row number and a salt.
-- Settings lab.scale (rows are multiplied by it) and lab.today (the day the data end on) come from the session.
CREATE FUNCTION pg_temp.n(rows int) RETURNS int LANGUAGE sql STABLE
  AS $$ SELECT greatest(1, (rows * current_setting('lab.scale')::numeric)::int) $$;
CREATE FUNCTION pg_temp.today() RETURNS date LANGUAGE sql STABLE
  AS $$ SELECT current_setting('lab.today')::date $$;
-- A whole number from 0 below `bound`.
CREATE FUNCTION pg_temp.h(i bigint, salt int, bound int) RETURNS int LANGUAGE sql IMMUTABLE
  AS $$ SELECT ((hashint8extended(i, salt) & x'7fffffffffff'::bigint) % bound)::int $$;
-- A number from 0 below 1.
CREATE FUNCTION pg_temp.r(i bigint, salt int) RETURNS float8 LANGUAGE sql IMMUTABLE
  AS $$ SELECT (hashint8extended(i, salt) & x'fffffffffff'::bigint)::float8 / 17592186044416 $$;
CREATE FUNCTION pg_temp.pick(i bigint, salt int, choices text[]) RETURNS text LANGUAGE sql IMMUTABLE
  AS $$ SELECT choices[1 + pg_temp.h(i, salt, cardinality(choices))] $$;
CREATE FUNCTION pg_temp.person(i bigint) RETURNS text LANGUAGE sql IMMUTABLE
  AS $$ SELECT pg_temp.pick(i, 901, '{Ada,Bela,Chen,Dara,Elif,Femi,Gita,Hugo,Ines,Jonas,Kofi,Lena,Mira,Noor,Olga,Pavel}')
            || ' ' || pg_temp.pick(i, 902, '{Adler,Bauer,Costa,Diaz,Eriksen,Fischer,Garcia,Haddad,Ito,Jansen,Kumar,Lopez,Moreau,Novak,Okafor,Petrov}') $$;
