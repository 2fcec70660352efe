CREATE TYPE presence AS ENUM ('present', 'late', 'absent', 'excused');
CREATE TABLE departments (code text PRIMARY KEY, title text NOT NULL);
INSERT INTO departments VALUES ('CS', 'Computer Science'), ('EE', 'Electrical Engineering'), ('ME', 'Mechanical Engineering'), ('MA', 'Mathematics');
CREATE TABLE students (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  roll_number text NOT NULL UNIQUE,
  name text NOT NULL,
  department text NOT NULL REFERENCES departments,
  phone_mac macaddr,
  admitted date NOT NULL,
  profile jsonb NOT NULL
);
INSERT INTO students (roll_number, name, department, phone_mac, admitted, profile)
SELECT pg_temp.pick(i, 1, '{CS,EE,ME,MA}') || lpad(i::text, 7, '0'), pg_temp.person(i), pg_temp.pick(i, 1, '{CS,EE,ME,MA}'),
       (substr(md5(i::text), 1, 12))::macaddr, pg_temp.today() - 100 - pg_temp.h(i, 2, 1200), jsonb_build_object('hostel', 'H' || pg_temp.h(i, 3, 12), 'year', 1 + pg_temp.h(i, 4, 4))
FROM generate_series(1, pg_temp.n(4000)) i;
CREATE TABLE courses (id serial PRIMARY KEY, department text NOT NULL REFERENCES departments, title text NOT NULL, credits smallint NOT NULL, weekly tsrange[] NOT NULL DEFAULT '{}');
INSERT INTO courses (department, title, credits)
SELECT pg_temp.pick(i, 5, '{CS,EE,ME,MA}'), 'Course ' || i, 1 + pg_temp.h(i, 6, 5) FROM generate_series(1, 120) i;
CREATE TABLE enrolments (
  student_id int NOT NULL REFERENCES students,
  course_id int NOT NULL REFERENCES courses,
  grade numeric(3,1),
  PRIMARY KEY (student_id, course_id)
);
INSERT INTO enrolments
SELECT 1 + i % pg_temp.n(4000), 1 + pg_temp.h(i, 7, 120), CASE WHEN i % 4 > 0 THEN round((10 * pg_temp.r(i, 8))::numeric, 1) END
FROM generate_series(1, pg_temp.n(16000)) i ON CONFLICT DO NOTHING;
CREATE INDEX enrolments_course ON enrolments (course_id);

CREATE TABLE attendance (
  student_id int NOT NULL REFERENCES students,
  course_id int NOT NULL REFERENCES courses,
  held_at timestamptz NOT NULL,
  presence presence NOT NULL,
  remark text
) PARTITION BY RANGE (held_at);
DO $$
DECLARE month date;
BEGIN
  FOR back IN -1 .. 5 LOOP
    month := date_trunc('month', pg_temp.today()) - make_interval(months => back);
    EXECUTE format('CREATE TABLE %I PARTITION OF attendance FOR VALUES FROM (%L) TO (%L)',
                   to_char(month, '"attendance_"YYYY_MM'), month, month + interval '1 month');
  END LOOP;
END $$;
CREATE TABLE attendance_older PARTITION OF attendance DEFAULT;
INSERT INTO attendance
SELECT 1 + pg_temp.h(i, 9, pg_temp.n(4000)), 1 + pg_temp.h(i, 10, 120), pg_temp.today() - make_interval(mins => pg_temp.h(i, 11, 216000)),
       (enum_range(null::presence))[1 + pg_temp.h(i, 12, 4)], CASE WHEN i % 30 = 0 THEN 'note ' || md5(i::text) END
FROM generate_series(1, pg_temp.n(90000)) i;
CREATE INDEX attendance_student ON attendance (student_id, held_at);
