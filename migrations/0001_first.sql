-- The record of a station. Times are epoch milliseconds, UTC. Nothing that was recorded of a backup, a key, an
-- attempt or a send is ever deleted; the triggers below hold that for the parts that never change either.

CREATE TABLE station (
  only_one   INTEGER PRIMARY KEY CHECK (only_one = 1),
  station_id TEXT    NOT NULL,
  -- The age recipient that the vault seals to; a vault with another identity is refused.
  recipient  TEXT,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  job             TEXT    NOT NULL,
  manifest        TEXT    NOT NULL, -- its real path
  manifest_sha256 TEXT    NOT NULL,
  again           INTEGER NOT NULL DEFAULT 0, -- begun anew on settled rows, on purpose
  state           TEXT    NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'interrupted', 'finished')),
  started_at      INTEGER NOT NULL,
  ended_at        INTEGER,
  exit_code       INTEGER
) STRICT;
CREATE INDEX runs_by_manifest ON runs (manifest, job, id);

CREATE TABLE rows (
  run_id      INTEGER NOT NULL REFERENCES runs (id),
  device_id   TEXT    NOT NULL CHECK (length(device_id) = 24),
  line        INTEGER NOT NULL,
  port        TEXT,
  name        TEXT,
  product_id  TEXT,
  extra       TEXT    NOT NULL DEFAULT '{}',
  outcome     TEXT CHECK (outcome IN ('pass', 'fail', 'error', 'refused', 'aborted', 'skipped', 'unseen')),
  code        TEXT,
  message     TEXT,
  cloud       TEXT CHECK (cloud IN ('accepted', 'pending', 'refused', 'none')),
  fingerprint TEXT,
  path        TEXT,
  duration_ms INTEGER,
  settled_at  INTEGER,
  PRIMARY KEY (run_id, device_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX rows_by_device ON rows (device_id, run_id);

CREATE TABLE devices (
  device_id     TEXT PRIMARY KEY CHECK (length(device_id) = 24),
  platform      TEXT    NOT NULL,
  bootloader    TEXT    NOT NULL,
  path          TEXT    NOT NULL,
  first_seen_at INTEGER NOT NULL,
  last_seen_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE attempts (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id      INTEGER NOT NULL REFERENCES runs (id),
  device_id   TEXT    NOT NULL REFERENCES devices (device_id),
  path        TEXT    NOT NULL,
  outcome     TEXT,
  code        TEXT,
  message     TEXT,
  started_at  INTEGER NOT NULL,
  ended_at    INTEGER
) STRICT;
CREATE INDEX attempts_by_device ON attempts (device_id, id);
CREATE INDEX attempts_by_run ON attempts (run_id, device_id);

CREATE TABLE steps (
  attempt_id INTEGER NOT NULL REFERENCES attempts (id),
  seq        INTEGER NOT NULL,
  name       TEXT    NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('ok', 'skipped', 'failed', 'aborted')),
  started_at INTEGER NOT NULL,
  ms         INTEGER NOT NULL,
  PRIMARY KEY (attempt_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE backups (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id      TEXT    NOT NULL REFERENCES devices (device_id),
  attempt_id     INTEGER NOT NULL REFERENCES attempts (id),
  taken_at       INTEGER NOT NULL,
  sha256         TEXT    NOT NULL, -- of the plain bytes
  bytes          INTEGER NOT NULL,
  classification TEXT    NOT NULL,
  fingerprint    TEXT,
  sealed         BLOB    NOT NULL
) STRICT;
CREATE INDEX backups_by_device ON backups (device_id, id);

-- state after NIST SP 800-57: pre-activation (made, not yet proven on the device), active (on the device),
-- deactivated (replaced or rolled back).
CREATE TABLE keys (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id      TEXT    NOT NULL REFERENCES devices (device_id),
  generation     INTEGER NOT NULL CHECK (generation > 0),
  fingerprint    TEXT    NOT NULL,
  algorithm      TEXT    NOT NULL,
  bits           INTEGER NOT NULL,
  origin         TEXT    NOT NULL CHECK (origin IN ('made', 'restored')),
  state          TEXT    NOT NULL CHECK (state IN ('pre-activation', 'active', 'deactivated')),
  public_pem     TEXT    NOT NULL,
  sealed_private BLOB, -- null for a restored key, whose private half lies in its backup
  created_at     INTEGER NOT NULL,
  verified_at    INTEGER,
  deactivated_at INTEGER,
  UNIQUE (device_id, generation)
) STRICT;
CREATE INDEX keys_by_fingerprint ON keys (fingerprint);
CREATE UNIQUE INDEX keys_one_active ON keys (device_id) WHERE state = 'active';

CREATE TABLE writes (
  id                INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id         TEXT    NOT NULL REFERENCES devices (device_id),
  attempt_id        INTEGER NOT NULL REFERENCES attempts (id),
  backup_id         INTEGER NOT NULL REFERENCES backups (id),
  key_id            INTEGER REFERENCES keys (id),
  alternate         INTEGER NOT NULL,
  offset            INTEGER NOT NULL,
  length            INTEGER NOT NULL CHECK (length BETWEEN 1 AND 4096),
  old_sha256        TEXT    NOT NULL,
  new_sha256        TEXT    NOT NULL,
  phase             TEXT    NOT NULL CHECK (phase IN ('prepared', 'writing', 'verified', 'accepted', 'unknown', 'refused',
                                                      'rolling-back', 'rolled-back', 'left', 'abandoned')),
  refusal_uncertain INTEGER NOT NULL DEFAULT 0,
  prepared_at       INTEGER NOT NULL,
  updated_at        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX writes_one_open ON writes (device_id) WHERE phase NOT IN ('left', 'rolled-back', 'abandoned');
CREATE INDEX writes_by_device ON writes (device_id, id);
CREATE INDEX writes_by_key ON writes (key_id);
CREATE INDEX writes_by_attempt ON writes (attempt_id);

CREATE TABLE sends (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  key_id      INTEGER NOT NULL UNIQUE REFERENCES keys (id),
  device_id   TEXT    NOT NULL REFERENCES devices (device_id),
  product_id  TEXT,
  state       TEXT    NOT NULL CHECK (state IN ('held', 'pending', 'accepted', 'refused', 'superseded', 'dropped')),
  attempts    INTEGER NOT NULL DEFAULT 0,
  unknowns    INTEGER NOT NULL DEFAULT 0, -- tries since the last clear answer that may yet be carried out
  next_at     INTEGER NOT NULL DEFAULT 0,
  last_status INTEGER,
  last_error  TEXT,
  lease_owner TEXT,
  lease_until INTEGER,
  accepted_at INTEGER,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sends_one_pending ON sends (device_id) WHERE state = 'pending';
CREATE INDEX sends_due ON sends (state, next_at);

CREATE TRIGGER backups_never_change BEFORE UPDATE ON backups
  BEGIN SELECT RAISE(ABORT, 'a backup never changes'); END;
CREATE TRIGGER backups_never_go BEFORE DELETE ON backups
  BEGIN SELECT RAISE(ABORT, 'a backup never goes'); END;
CREATE TRIGGER keys_never_go BEFORE DELETE ON keys
  BEGIN SELECT RAISE(ABORT, 'a key never goes'); END;
CREATE TRIGGER keys_never_change BEFORE UPDATE OF device_id, generation, fingerprint, public_pem, created_at ON keys
  BEGIN SELECT RAISE(ABORT, 'a key never changes'); END;
CREATE TRIGGER attempts_never_go BEFORE DELETE ON attempts
  BEGIN SELECT RAISE(ABORT, 'an attempt never goes'); END;
CREATE TRIGGER sends_never_go BEFORE DELETE ON sends
  BEGIN SELECT RAISE(ABORT, 'a send never goes'); END;
CREATE TRIGGER writes_never_go BEFORE DELETE ON writes
  BEGIN SELECT RAISE(ABORT, 'a write never goes'); END;
