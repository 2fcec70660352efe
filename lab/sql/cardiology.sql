CREATE TYPE sex AS ENUM ('female', 'male', 'other');
CREATE SCHEMA clinic;
CREATE TABLE clinic.clinicians (id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, roles text[] NOT NULL);
INSERT INTO clinic.clinicians (name, roles)
SELECT pg_temp.person(i * 31), CASE WHEN i % 4 = 0 THEN '{consultant,reader}'::text[] ELSE '{reader}' END FROM generate_series(1, 60) i;

CREATE TABLE clinic.patients (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  record_number text NOT NULL UNIQUE,
  name text NOT NULL,
  sex sex NOT NULL,
  born date NOT NULL,
  allergies text[] NOT NULL DEFAULT '{}',
  consent jsonb NOT NULL
);
INSERT INTO clinic.patients (record_number, name, sex, born, allergies, consent)
SELECT 'FAKE-' || lpad(i::text, 7, '0'), pg_temp.person(i), (enum_range(null::sex))[1 + pg_temp.h(i, 1, 3)],
       date '1935-01-01' + pg_temp.h(i, 2, 27000),
       CASE WHEN i % 6 = 0 THEN ARRAY['penicillin'] ELSE '{}' END, jsonb_build_object('research', i % 3 = 0, 'version', 1 + pg_temp.h(i, 3, 3))
FROM generate_series(1, pg_temp.n(4000)) i;

CREATE TABLE clinic.encounters (
  id bigserial PRIMARY KEY,
  patient_id bigint NOT NULL REFERENCES clinic.patients,
  clinician_id smallint NOT NULL REFERENCES clinic.clinicians,
  during tstzrange NOT NULL,
  notes text NOT NULL,
  blood_pressure int4range
);
INSERT INTO clinic.encounters (patient_id, clinician_id, during, notes, blood_pressure)
SELECT 1 + pg_temp.h(i, 4, pg_temp.n(4000)), 1 + pg_temp.h(i, 5, 60), tstzrange(began, began + make_interval(mins => 10 + pg_temp.h(i, 7, 50))),
       'Presents with ' || pg_temp.pick(i, 8, '{palpitations,chest pain,dyspnoea,syncope,fatigue}') || '. Follow-up in '
         || 1 + pg_temp.h(i, 9, 12) || ' weeks. Ref ' || md5(i::text),
       int4range(60 + pg_temp.h(i, 10, 30), 110 + pg_temp.h(i, 11, 60))
FROM (SELECT i, pg_temp.today() - make_interval(mins => pg_temp.h(i, 6, 800000)) AS began FROM generate_series(1, pg_temp.n(15000)) i) AS e;
CREATE INDEX encounters_patient ON clinic.encounters (patient_id);
CREATE INDEX encounters_during ON clinic.encounters USING gist (during);

CREATE TABLE clinic.ecg_readings (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  encounter_id bigint NOT NULL REFERENCES clinic.encounters,
  lead text NOT NULL,
  hertz smallint NOT NULL,
  millivolts real[] NOT NULL,
  heart_rate numeric(5,1) NOT NULL
);
INSERT INTO clinic.ecg_readings (encounter_id, lead, hertz, millivolts, heart_rate)
SELECT 1 + pg_temp.h(i, 12, pg_temp.n(15000)), pg_temp.pick(i, 13, '{I,II,III,aVR,aVL,aVF,V1,V2}'), 250,
       ARRAY(SELECT (sin(s / 8.0 + i) * 0.4 + CASE WHEN s % 50 = i % 50 THEN 1.1 ELSE 0 END)::numeric(6,3)::real FROM generate_series(1, 250) s),
       round((50 + 70 * pg_temp.r(i, 14))::numeric, 1)
FROM generate_series(1, pg_temp.n(6000)) i;
CREATE INDEX ecg_encounter ON clinic.ecg_readings (encounter_id);

CREATE TABLE clinic.logins (at timestamptz NOT NULL, account text NOT NULL, client inet NOT NULL, succeeded boolean NOT NULL);
INSERT INTO clinic.logins
SELECT pg_temp.today() - make_interval(secs => i * 97), 'clinician' || pg_temp.h(i, 15, 60), ('10.20.' || pg_temp.h(i, 16, 8) || '.' || 1 + pg_temp.h(i, 17, 250))::inet,
       pg_temp.h(i, 18, 50) > 0
FROM generate_series(1, pg_temp.n(20000)) i;
CREATE INDEX logins_at ON clinic.logins USING brin (at);
