-- Firmware: which modules were seen on a device, and what was flashed. SHA-256 is of a module with its CRC.

-- One row for each observation that differs from the last of its slot.
CREATE TABLE modules (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id  TEXT    NOT NULL REFERENCES devices (device_id),
  slot       TEXT    NOT NULL CHECK (slot IN ('system-part1', 'system-part2', 'user-part')),
  state      TEXT    NOT NULL CHECK (state IN ('whole', 'wrong-crc', 'wrong-header', 'empty')),
  version    INTEGER,
  function   INTEGER,
  platform   TEXT,
  sha256     TEXT CHECK (length(sha256) = 64),
  seen_at    INTEGER NOT NULL,
  attempt_id INTEGER NOT NULL REFERENCES attempts (id),
  CHECK (state <> 'whole' OR (version IS NOT NULL AND sha256 IS NOT NULL))
) STRICT;
CREATE INDEX modules_by_slot ON modules (device_id, slot, id);

-- Begun before the first sector is erased. A device whose flashing has not ended is between parts; one that ended in the
-- state `writing` was given up for another.
CREATE TABLE flashings (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id  TEXT    NOT NULL REFERENCES devices (device_id),
  attempt_id INTEGER NOT NULL REFERENCES attempts (id),
  begun_at   INTEGER NOT NULL,
  ended_at   INTEGER,
  -- JSON: by slot the version and the SHA-256 of the module that is to be there.
  wanted     TEXT    NOT NULL,
  -- Where the device was on the bus when its new system parts were whole, and under which number: as long as it is there under
  -- the same one, it has not started anew, and its DCT must be left alone.
  ended_as   TEXT,
  state      TEXT    NOT NULL DEFAULT 'writing' CHECK (state IN ('writing', 'whole')),
  CHECK (state = 'writing' OR ended_at IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX flashings_under_way ON flashings (device_id) WHERE ended_at IS NULL;
CREATE INDEX flashings_by_device ON flashings (device_id, id);

CREATE TRIGGER modules_never_change BEFORE UPDATE ON modules
  BEGIN SELECT RAISE(ABORT, 'what was seen of a module never changes'); END;
CREATE TRIGGER modules_never_go BEFORE DELETE ON modules
  BEGIN SELECT RAISE(ABORT, 'what was seen of a module never goes'); END;
CREATE TRIGGER flashings_never_change BEFORE UPDATE OF id, device_id, attempt_id, begun_at, wanted ON flashings
  BEGIN SELECT RAISE(ABORT, 'a flashing never changes'); END;
CREATE TRIGGER flashings_end_once BEFORE UPDATE OF ended_at, state ON flashings
  WHEN OLD.ended_at IS NOT NULL OR NEW.ended_at IS NULL
  BEGIN SELECT RAISE(ABORT, 'a flashing ends once'); END;
CREATE TRIGGER flashings_never_go BEFORE DELETE ON flashings
  BEGIN SELECT RAISE(ABORT, 'a flashing never goes'); END;
