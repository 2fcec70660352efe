CREATE TYPE risk AS ENUM ('low', 'moderate', 'high');
CREATE TABLE students (
  id serial PRIMARY KEY,
  school_code char(6) NOT NULL,
  grade smallint NOT NULL CHECK (grade BETWEEN 0 AND 12),
  guardian_email text,
  demographics jsonb NOT NULL,
  enrolled_on date NOT NULL
);
INSERT INTO students (school_code, grade, guardian_email, demographics, enrolled_on)
SELECT 'SC' || lpad(pg_temp.h(i, 1, 40)::text, 4, '0'), pg_temp.h(i, 2, 13), CASE WHEN i % 9 > 0 THEN 'guardian' || i || '@example.com' END,
       jsonb_build_object('language', pg_temp.pick(i, 3, '{en,es,zh,ar}'), 'commute_minutes', pg_temp.h(i, 4, 90), 'lunch', i % 3 = 0), pg_temp.today() - 60 - pg_temp.h(i, 5, 1500)
FROM generate_series(1, pg_temp.n(8000)) i;
CREATE INDEX students_school ON students (school_code, grade);

CREATE TABLE engagement (
  student_id int NOT NULL REFERENCES students,
  week date NOT NULL,
  clicks int NOT NULL,
  score numeric(5,2),
  absent_days smallint NOT NULL,
  PRIMARY KEY (student_id, week)
);
INSERT INTO engagement
SELECT s, (date_trunc('week', pg_temp.today()) - make_interval(weeks => w))::date, pg_temp.h(s * 100 + w, 6, 400),
       CASE WHEN pg_temp.h(s * 100 + w, 7, 20) > 0 THEN round((100 * pg_temp.r(s * 100 + w, 8))::numeric, 2) END, pg_temp.h(s * 100 + w, 9, 3)
FROM generate_series(1, pg_temp.n(8000)::bigint) s, generate_series(0, 11) w;

CREATE TABLE predictions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  student_id int NOT NULL REFERENCES students,
  model_version text NOT NULL,
  risk risk NOT NULL,
  probability float8 NOT NULL CHECK (probability BETWEEN 0 AND 1),
  explanation jsonb NOT NULL,
  made_at timestamptz NOT NULL
);
INSERT INTO predictions (student_id, model_version, risk, probability, explanation, made_at)
SELECT 1 + pg_temp.h(i, 10, pg_temp.n(8000)), '2.' || pg_temp.h(i, 11, 3), (enum_range(null::risk))[1 + pg_temp.h(i, 12, 3)], pg_temp.r(i, 13),
       jsonb_build_object('clicks', round(pg_temp.r(i, 14)::numeric, 3), 'score', round(pg_temp.r(i, 15)::numeric, 3), 'absence', round(pg_temp.r(i, 16)::numeric, 3)),
       pg_temp.today() - make_interval(mins => i * 3)
FROM generate_series(1, pg_temp.n(20000)) i;
CREATE INDEX predictions_student ON predictions (student_id, made_at DESC);

CREATE TABLE notifications (
  id bigserial PRIMARY KEY,
  student_id int NOT NULL REFERENCES students,
  channel text NOT NULL,
  queued_at timestamptz NOT NULL,
  delivered_at timestamptz
);
INSERT INTO notifications (student_id, channel, queued_at, delivered_at)
SELECT 1 + pg_temp.h(i, 17, pg_temp.n(8000)), pg_temp.pick(i, 18, '{email,sms,app}'), t, CASE WHEN i % 50 > 0 THEN t + interval '4 seconds' END
FROM (SELECT i, pg_temp.today() - make_interval(mins => i * 11) AS t FROM generate_series(1, pg_temp.n(4000)) i) AS q;
CREATE MATERIALIZED VIEW risk_by_school AS
SELECT s.school_code, p.risk, count(*) AS predictions FROM predictions p JOIN students s ON s.id = p.student_id GROUP BY 1, 2;
