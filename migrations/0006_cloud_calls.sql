-- Calls to the cloud beside the sends of keys: a device is added to its product, gets its name, and is asked after until it has
-- connected. Each is on record before it is made, and may be made again. For one device the order is: its key is accepted,
-- add-to-product, the others.

CREATE TABLE cloud_calls (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  device_id   TEXT    NOT NULL CHECK (length(device_id) = 24),
  kind        TEXT    NOT NULL CHECK (kind IN ('add-to-product', 'name', 'confirm-online')),
  -- The body of the request, as JSON; never a secret.
  payload     TEXT    NOT NULL CHECK (json_valid(payload)),
  product_id  TEXT,
  state       TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'refused', 'dropped', 'superseded')),
  attempts    INTEGER NOT NULL DEFAULT 0,
  next_at     INTEGER NOT NULL DEFAULT 0,
  last_status INTEGER,
  last_error  TEXT,
  lease_owner TEXT,
  lease_until INTEGER,
  created_at  INTEGER NOT NULL,
  updated_at  INTEGER NOT NULL,
  CHECK (kind <> 'add-to-product' OR product_id IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX cloud_calls_one_pending ON cloud_calls (device_id, kind) WHERE state = 'pending';
CREATE INDEX cloud_calls_by_device ON cloud_calls (device_id, id);
CREATE INDEX cloud_calls_due ON cloud_calls (state, kind, id);
CREATE INDEX cloud_calls_leased ON cloud_calls (lease_owner) WHERE lease_owner IS NOT NULL;

CREATE TRIGGER cloud_calls_never_go BEFORE DELETE ON cloud_calls
  BEGIN SELECT RAISE(ABORT, 'a call never goes'); END;
CREATE TRIGGER cloud_calls_never_change BEFORE UPDATE OF id, device_id, kind, payload, product_id, created_at ON cloud_calls
  BEGIN SELECT RAISE(ABORT, 'a call never changes'); END;
CREATE TRIGGER cloud_calls_stay_done BEFORE UPDATE OF state ON cloud_calls
  WHEN OLD.state IN ('done', 'superseded') AND NEW.state <> OLD.state
  BEGIN SELECT RAISE(ABORT, 'a call that is done or superseded stays so'); END;
