-- Key pairs made ahead. Each is taken once: before its private half is opened, the row says that it is taken, and for good.

CREATE TABLE prepared_keys (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  fingerprint   TEXT    NOT NULL UNIQUE CHECK (length(fingerprint) = 64),
  -- The private half; null from the moment in which the pair is taken, or discarded.
  sealed        BLOB,
  sealed_sha256 TEXT    NOT NULL CHECK (length(sealed_sha256) = 64),
  made_at       INTEGER NOT NULL,
  taken_at      INTEGER,
  CHECK ((sealed IS NULL) = (taken_at IS NOT NULL))
) STRICT;
CREATE INDEX prepared_keys_there ON prepared_keys (id) WHERE taken_at IS NULL;

CREATE TRIGGER prepared_keys_never_go BEFORE DELETE ON prepared_keys
  BEGIN SELECT RAISE(ABORT, 'a prepared key never goes'); END;
CREATE TRIGGER prepared_keys_never_change BEFORE UPDATE OF id, fingerprint, sealed_sha256, made_at ON prepared_keys
  BEGIN SELECT RAISE(ABORT, 'a prepared key never changes'); END;
CREATE TRIGGER prepared_keys_taken_once BEFORE UPDATE OF sealed, taken_at ON prepared_keys
  WHEN OLD.taken_at IS NOT NULL OR NEW.taken_at IS NULL
  BEGIN SELECT RAISE(ABORT, 'a prepared key is taken once'); END;
