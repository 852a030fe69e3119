-- Crashes, bad devices, clocks that jump: what may be told from the record no longer hangs on times.

-- The newest attempt that moved a write on, for telling whether an attempt which was cut short had come to its end.
ALTER TABLE writes ADD COLUMN last_attempt_id INTEGER REFERENCES attempts (id);
UPDATE writes SET last_attempt_id = coalesce(
  (SELECT max(id) FROM attempts WHERE attempts.device_id = writes.device_id AND attempts.started_at <= writes.updated_at),
  attempt_id);

-- Tries of a send to which no answer came at all: each of them may yet be carried out, however late.
ALTER TABLE sends ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0;
UPDATE sends SET unanswered = unknowns;

-- An accepted key that the cloud is to be told once more, since an older one's try may land after it.
ALTER TABLE sends ADD COLUMN confirm_at INTEGER;

-- Sends are looked up by their device at every lease and every write.
CREATE INDEX sends_by_device ON sends (device_id);

-- A hand has looked at a quarantined device and lets it take part again: attempts up to this one count no more.
CREATE TABLE releases (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id     TEXT    NOT NULL REFERENCES devices (device_id),
  after_attempt INTEGER NOT NULL REFERENCES attempts (id),
  why           TEXT,
  released_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX releases_by_device ON releases (device_id, after_attempt);

-- Nothing that was recorded changes or goes.
CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases
  BEGIN SELECT RAISE(ABORT, 'a release never changes'); END;
CREATE TRIGGER releases_never_go BEFORE DELETE ON releases
  BEGIN SELECT RAISE(ABORT, 'a release never goes'); END;
CREATE TRIGGER steps_never_change BEFORE UPDATE ON steps
  BEGIN SELECT RAISE(ABORT, 'a step never changes'); END;
CREATE TRIGGER steps_never_go BEFORE DELETE ON steps
  BEGIN SELECT RAISE(ABORT, 'a step never goes'); END;
CREATE TRIGGER attempts_never_change BEFORE UPDATE OF id, run_id, device_id, path, started_at ON attempts
  BEGIN SELECT RAISE(ABORT, 'an attempt never changes'); END;
CREATE TRIGGER attempts_end_once BEFORE UPDATE OF outcome, code, message, ended_at ON attempts WHEN OLD.ended_at IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'an attempt ends once'); END;
DROP TRIGGER keys_never_change;
CREATE TRIGGER keys_never_change
  BEFORE UPDATE OF id, device_id, generation, fingerprint, algorithm, bits, origin, public_pem, sealed_private, created_at ON keys
  BEGIN SELECT RAISE(ABORT, 'a key never changes'); END;
CREATE TRIGGER sends_never_change BEFORE UPDATE OF id, key_id, device_id, product_id, created_at ON sends
  BEGIN SELECT RAISE(ABORT, 'a send never changes'); END;
CREATE TRIGGER sends_stay_accepted BEFORE UPDATE OF accepted_at ON sends WHEN OLD.accepted_at IS NOT NULL AND NEW.accepted_at IS NULL
  BEGIN SELECT RAISE(ABORT, 'what was accepted stays so'); END;
CREATE TRIGGER writes_never_change
  BEFORE UPDATE OF id, device_id, attempt_id, backup_id, key_id, alternate, offset, length, old_sha256, new_sha256, prepared_at ON writes
  BEGIN SELECT RAISE(ABORT, 'a write never changes'); END;
