CREATE TABLE students (id INTEGER PRIMARY KEY, school_code TEXT NOT NULL, grade INTEGER NOT NULL);
CREATE TABLE predictions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  student_id INTEGER NOT NULL REFERENCES students,
  probability REAL NOT NULL,
  explanation TEXT NOT NULL,
  made_at TEXT NOT NULL
);
CREATE INDEX predictions_student ON predictions (student_id);
