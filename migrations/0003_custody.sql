-- Custody and audit: what was sealed to whom, why each key is in its state, and a journal that nobody can rewrite unseen.

-- How private material is sealed: `local` (to the station's own identity), `escrow` (to recipients that it can't open for),
-- `none` (private keys are not kept). A JSON list of age recipients; null until the vault is first used.
ALTER TABLE station ADD COLUMN vault_policy TEXT CHECK (vault_policy IN ('local', 'escrow', 'none'));
ALTER TABLE station ADD COLUMN vault_recipients TEXT;
UPDATE station SET vault_policy = 'local', vault_recipients = json_array(recipient) WHERE recipient IS NOT NULL;
-- A rewrap that is under way: its policy, its recipients and how far it is (JSON); null: none.
ALTER TABLE station ADD COLUMN vault_rewrap TEXT;
-- The Ed25519 key that signs checkpoints and reports: the raw 32 bytes of its public half, base64.
ALTER TABLE station ADD COLUMN signing_key TEXT;
-- The settings that the last run worked with, as JSON: a change of them is an event.
ALTER TABLE station ADD COLUMN configuration TEXT;

-- What the journal says of a sealed item is its hash: the item itself may be sealed anew to other recipients.
ALTER TABLE keys ADD COLUMN sealed_sha256 TEXT;
ALTER TABLE backups ADD COLUMN sealed_sha256 TEXT;
DROP TRIGGER backups_never_change;
DROP TRIGGER keys_never_change;
UPDATE keys SET sealed_sha256 = sha256_hex(sealed_private) WHERE sealed_private IS NOT NULL;
UPDATE backups SET sealed_sha256 = sha256_hex(sealed);
CREATE TRIGGER backups_never_change
  BEFORE UPDATE OF id, device_id, attempt_id, taken_at, sha256, bytes, classification, fingerprint ON backups
  BEGIN SELECT RAISE(ABORT, 'a backup never changes'); END;
CREATE TRIGGER backups_sealed_anew BEFORE UPDATE OF sealed, sealed_sha256 ON backups
  WHEN NEW.sealed_sha256 IS OLD.sealed_sha256 OR NEW.sealed_sha256 IS NULL OR length(NEW.sealed) = 0
  BEGIN SELECT RAISE(ABORT, 'a backup never changes'); END;
CREATE TRIGGER keys_never_change
  BEFORE UPDATE OF id, device_id, generation, fingerprint, algorithm, bits, origin, public_pem, created_at ON keys
  BEGIN SELECT RAISE(ABORT, 'a key never changes'); END;
CREATE TRIGGER keys_sealed_anew BEFORE UPDATE OF sealed_private, sealed_sha256 ON keys
  WHEN NEW.sealed_sha256 IS OLD.sealed_sha256 OR NEW.sealed_sha256 IS NULL OR length(coalesce(NEW.sealed_private, '')) = 0
  BEGIN SELECT RAISE(ABORT, 'a key never changes'); END;
CREATE INDEX backups_by_fingerprint ON backups (fingerprint) WHERE fingerprint IS NOT NULL;

-- Working identities: what a run has begun is sealed to one of these as well, so that it can be finished after a crash.
-- The file that holds it is destroyed once nothing of the run is open any more.
CREATE TABLE working_identities (
  recipient    TEXT PRIMARY KEY,
  run_id       INTEGER REFERENCES runs (id),
  made_at      INTEGER NOT NULL,
  destroyed_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TRIGGER working_identities_never_go BEFORE DELETE ON working_identities
  BEGIN SELECT RAISE(ABORT, 'a working identity stays on record'); END;

-- Every change of a key's state (NIST SP 800-57 part 1, section 7), with its time and its reason.
CREATE TABLE key_changes (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  key_id INTEGER NOT NULL REFERENCES keys (id),
  state  TEXT    NOT NULL CHECK (state IN ('pre-activation', 'active', 'deactivated', 'compromised', 'destroyed')),
  reason TEXT    NOT NULL,
  at     INTEGER NOT NULL
) STRICT;
CREATE INDEX key_changes_by_key ON key_changes (key_id, id);
INSERT INTO key_changes (key_id, state, reason, at)
  SELECT id, 'pre-activation', 'made', created_at FROM keys WHERE origin = 'made';
INSERT INTO key_changes (key_id, state, reason, at)
  SELECT id, 'active', CASE origin WHEN 'made' THEN 'verified on the device' ELSE 'put back on the device' END, verified_at
    FROM keys WHERE verified_at IS NOT NULL ORDER BY verified_at, id;
INSERT INTO key_changes (key_id, state, reason, at)
  SELECT id, 'deactivated', 'recorded before reasons were', coalesce(deactivated_at, created_at)
    FROM keys WHERE state = 'deactivated' ORDER BY deactivated_at, id;

-- What a hand has said of a key, by its fingerprint: keys that were found on devices in backups as well.
CREATE TABLE key_marks (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  fingerprint TEXT    NOT NULL CHECK (length(fingerprint) = 64),
  state       TEXT    NOT NULL CHECK (state IN ('compromised', 'destroyed')),
  why         TEXT    NOT NULL,
  marked_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX key_marks_by_fingerprint ON key_marks (fingerprint, id);

-- Backups whose keys a hand asked to be put back, and why. Who asked stands in the journal.
CREATE TABLE restores (
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id TEXT    NOT NULL REFERENCES devices (device_id),
  backup_id INTEGER NOT NULL REFERENCES backups (id),
  run_id    INTEGER NOT NULL REFERENCES runs (id),
  why       TEXT,
  asked_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX restores_by_run ON restores (run_id, id);
CREATE TRIGGER restores_never_change BEFORE UPDATE ON restores
  BEGIN SELECT RAISE(ABORT, 'what was asked of a restore never changes'); END;
CREATE TRIGGER restores_never_go BEFORE DELETE ON restores
  BEGIN SELECT RAISE(ABORT, 'a restore never goes'); END;

-- The backup whose keys a write puts back; its key is null where the backup holds none that can be read.
ALTER TABLE writes ADD COLUMN restored_backup_id INTEGER REFERENCES backups (id);
DROP TRIGGER writes_never_change;
CREATE TRIGGER writes_never_change
  BEFORE UPDATE OF id, device_id, attempt_id, backup_id, key_id, alternate, offset, length, old_sha256, new_sha256, prepared_at,
    restored_backup_id ON writes
  BEGIN SELECT RAISE(ABORT, 'a write never changes'); END;

-- The journal: every event, appended in the transaction of what it tells. `hash` is SHA-256 over
-- "photon-fleet journal event v1" and a newline, the 32 bytes of `prev` (zeros for the first), and the bytes of `body`.
CREATE TABLE journal (
  seq       INTEGER PRIMARY KEY CHECK (seq > 0),
  prev      BLOB NOT NULL CHECK (length(prev) = 32),
  body      TEXT NOT NULL,
  hash      BLOB NOT NULL CHECK (length(hash) = 32),
  device_id TEXT GENERATED ALWAYS AS (json_extract(body, '$.device')) VIRTUAL
) STRICT;
CREATE INDEX journal_by_device ON journal (device_id, seq) WHERE device_id IS NOT NULL;

-- Signed notes (c2sp.org/signed-note) on the journal's head.
CREATE TABLE checkpoints (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  seq      INTEGER NOT NULL,
  note     TEXT    NOT NULL,
  made_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX checkpoints_by_seq ON checkpoints (seq);

CREATE TRIGGER key_changes_never_change BEFORE UPDATE ON key_changes
  BEGIN SELECT RAISE(ABORT, 'what was recorded of a key never changes'); END;
CREATE TRIGGER key_changes_never_go BEFORE DELETE ON key_changes
  BEGIN SELECT RAISE(ABORT, 'what was recorded of a key never goes'); END;
CREATE TRIGGER key_marks_never_change BEFORE UPDATE ON key_marks
  BEGIN SELECT RAISE(ABORT, 'a mark never changes'); END;
CREATE TRIGGER key_marks_never_go BEFORE DELETE ON key_marks
  BEGIN SELECT RAISE(ABORT, 'a mark never goes'); END;
CREATE TRIGGER journal_never_changes BEFORE UPDATE ON journal
  BEGIN SELECT RAISE(ABORT, 'the journal never changes'); END;
CREATE TRIGGER journal_never_goes BEFORE DELETE ON journal
  BEGIN SELECT RAISE(ABORT, 'the journal never goes'); END;
CREATE TRIGGER checkpoints_never_change BEFORE UPDATE ON checkpoints
  BEGIN SELECT RAISE(ABORT, 'a checkpoint never changes'); END;
CREATE TRIGGER checkpoints_never_go BEFORE DELETE ON checkpoints
  BEGIN SELECT RAISE(ABORT, 'a checkpoint never goes'); END;
CREATE TRIGGER runs_never_go BEFORE DELETE ON runs
  BEGIN SELECT RAISE(ABORT, 'a run never goes'); END;
CREATE TRIGGER rows_never_go BEFORE DELETE ON rows
  BEGIN SELECT RAISE(ABORT, 'a row never goes'); END;
CREATE TRIGGER devices_never_go BEFORE DELETE ON devices
  BEGIN SELECT RAISE(ABORT, 'a device never goes'); END;
CREATE TRIGGER station_never_goes BEFORE DELETE ON station
  BEGIN SELECT RAISE(ABORT, 'the station stays on record'); END;
