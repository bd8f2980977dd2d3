"""The schema in SQL, as each step of `migrations` leaves it to the next. What a step says here never changes once it is released.

Table names are the contract with operators who open the file (DESIGN 4). Times are ms since the epoch, hours are hours
since the epoch, values are micro (10⁻⁶ of the meter's unit).
"""

from __future__ import annotations

SCHEMA_001 = """
CREATE TABLE meter (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    enerkey_id INTEGER,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,
    push TEXT NOT NULL,
    source TEXT NOT NULL,              -- where the values come from, for people
    configured INTEGER NOT NULL        -- 0 once it has left the configuration; its data stays (R31)
) STRICT;
CREATE TABLE reading (
    at INTEGER NOT NULL,
    meter INTEGER NOT NULL REFERENCES meter(id),
    value INTEGER NOT NULL,
    received INTEGER NOT NULL,
    PRIMARY KEY (at, meter)            -- time first: one poll of many meters touches few pages (reliability 2.6)
) STRICT, WITHOUT ROWID;
CREATE TABLE reading_hour (            -- the hours that hold readings of a meter: finds them where `reading` cannot
    hour INTEGER NOT NULL,
    meter INTEGER NOT NULL REFERENCES meter(id),
    PRIMARY KEY (hour, meter)
) STRICT, WITHOUT ROWID;
CREATE TABLE rejected (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    connection TEXT NOT NULL,
    source TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    payload TEXT NOT NULL
) STRICT;
CREATE TABLE rejected_count (
    connection TEXT NOT NULL,
    source TEXT NOT NULL,              -- '' where the message fitted no source
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (connection, source, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE counter_state (
    meter INTEGER PRIMARY KEY REFERENCES meter(id),
    opening_hour INTEGER NOT NULL,     -- the edge at which this meter's hours begin
    opening INTEGER NOT NULL,          -- the boundary value there
    quality TEXT NOT NULL,             -- of the newest frozen boundary
    tail_at INTEGER,                   -- the newest good reading up to that boundary
    tail_value INTEGER,
    changed_at INTEGER                 -- when the source last moved, up to that reading
) STRICT;
CREATE TABLE driver_state (
    connection TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (connection, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE unplaced (
    id INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL,
    boottime INTEGER NOT NULL,         -- ms since that boot
    meter INTEGER NOT NULL REFERENCES meter(id),
    value INTEGER NOT NULL,
    source_at INTEGER,                 -- the source's own time, where it gave one
    received INTEGER NOT NULL          -- what the untrusted clock said
) STRICT;
CREATE TABLE hour (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    consumption INTEGER NOT NULL,
    boundary INTEGER NOT NULL,         -- register value, or running total, at the hour's end
    quality TEXT NOT NULL,
    closed_at INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'accepted', 'held', 'missing')),
    UNIQUE (meter, hour)
) STRICT;
CREATE INDEX hour_pending ON hour (meter, hour) WHERE state = 'pending';
CREATE INDEX hour_held ON hour (meter, hour) WHERE state = 'held';
CREATE TABLE adjustment (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX adjustment_hour ON adjustment (meter, hour);
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    accepted INTEGER NOT NULL,         -- consumption, for cumulative meters too
    message INTEGER,
    at INTEGER NOT NULL,
    UNIQUE (meter, hour)
) STRICT;
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    family TEXT NOT NULL CHECK (family IN ('consumption', 'cumulative')),
    enerkey_id INTEGER NOT NULL,
    body BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    key_slot INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'accepted', 'refused', 'not_sent', 'unknown', 'verified')),
    fate_at INTEGER,
    fate TEXT NOT NULL DEFAULT ''      -- the server's or the network's words
) STRICT;
CREATE UNIQUE INDEX message_one_open ON message (meter) WHERE state IN ('open', 'unknown');
CREATE TABLE message_hour (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message(id),
    meter INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    value INTEGER NOT NULL,            -- the consumption that this message adds to the hour
    fate TEXT NOT NULL DEFAULT '',
    UNIQUE (message, hour)
) STRICT;
CREATE TABLE request_budget (
    bin INTEGER PRIMARY KEY,           -- 5-minute bins since the epoch
    requests INTEGER NOT NULL
) STRICT;
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID
"""

SCHEMA_002 = """
ALTER TABLE meter ADD COLUMN register TEXT NOT NULL DEFAULT '';
ALTER TABLE meter ADD COLUMN since INTEGER;
ALTER TABLE counter_state RENAME COLUMN tail_value TO tail_total;
ALTER TABLE counter_state RENAME COLUMN changed_at TO changed;
ALTER TABLE counter_state ADD COLUMN raw INTEGER;
ALTER TABLE counter_state ADD COLUMN offset INTEGER;
ALTER TABLE counter_state ADD COLUMN awaits INTEGER;
ALTER TABLE counter_state ADD COLUMN former_raw INTEGER;
ALTER TABLE counter_state ADD COLUMN former_changed INTEGER;
ALTER TABLE counter_state ADD COLUMN former_offset INTEGER;
ALTER TABLE counter_state ADD COLUMN former_level INTEGER;
ALTER TABLE counter_state ADD COLUMN told_until INTEGER NOT NULL DEFAULT 0;
UPDATE counter_state SET raw = tail_total, offset = 0
    WHERE tail_total IS NOT NULL AND meter IN (SELECT id FROM meter WHERE kind = 'counter');
CREATE TABLE epoch (                   -- from here on a meter's register is another one
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    at INTEGER NOT NULL,
    old_final INTEGER,                 -- what the old one stood at; NULL where nobody knows
    new_initial INTEGER,               -- what the new one began at; NULL: its first reading decides
    final INTEGER NOT NULL,            -- 1: no reading will come after it
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    UNIQUE (meter, at)
) STRICT
"""

SCHEMA_003 = """
ALTER TABLE hour ADD COLUMN covered_seconds INTEGER;
CREATE TABLE parked (                  -- energy that is in no hour and no adjustment: a person decides where it goes
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,             -- the hour in which it was used, as far as that is known
    amount INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX parked_hour ON parked (meter, hour)
"""

SCHEMA_004 = """
CREATE TABLE suspect (                 -- hours of a refused message, while the one that is refused is looked for
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    near INTEGER NOT NULL,             -- 1: it is among these; 0: the message's other hours, which wait for the end of it
    PRIMARY KEY (meter, hour)
) STRICT, WITHOUT ROWID
"""

SCHEMA_005 = """
ALTER TABLE adjustment ADD COLUMN posted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX adjustment_unposted ON adjustment (meter, hour) WHERE posted <> amount;
CREATE TABLE message_adjustment (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL REFERENCES message(id),
    adjustment INTEGER NOT NULL REFERENCES adjustment(id),
    hour INTEGER NOT NULL,             -- of the item that takes it along
    amount INTEGER NOT NULL            -- as much of it
) STRICT;
CREATE INDEX message_adjustment_message ON message_adjustment (message)
"""

SCHEMA_006 = """
ALTER TABLE meter ADD COLUMN look_after INTEGER DEFAULT 0;
ALTER TABLE meter ADD COLUMN audited_at INTEGER NOT NULL DEFAULT 0
"""

SCHEMA_007 = """
ALTER TABLE meter ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE request_budget RENAME TO former_budget;
CREATE TABLE request_budget (
    account TEXT NOT NULL,             -- '' is [enerkey] itself, here and everywhere
    bin INTEGER NOT NULL,              -- 5-minute bins since the epoch
    requests INTEGER NOT NULL,
    PRIMARY KEY (account, bin)
) STRICT, WITHOUT ROWID;
INSERT INTO request_budget SELECT '', bin, requests FROM former_budget;
DROP TABLE former_budget;
CREATE TABLE key_use (                 -- when EnerKey last took which API key for what; never the key itself
    account TEXT NOT NULL,
    family TEXT NOT NULL,
    reference TEXT NOT NULL,           -- how the configuration names the key
    accepted_at INTEGER NOT NULL,
    PRIMARY KEY (account, family, reference)
) STRICT, WITHOUT ROWID
"""

SCHEMA_008 = """
CREATE TABLE finding (                 -- the newest answer to each question of `probe`
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,             -- '' is [enerkey] itself
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    words TEXT NOT NULL,               -- the same for people
    api TEXT NOT NULL,                 -- fingerprint of the URL and contract that were probed; of no key
    at INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT
"""

SCHEMA_009 = """
CREATE TABLE doubt (                   -- why an hour is held, with the numbers that a person decides by
    id INTEGER PRIMARY KEY,
    meter INTEGER NOT NULL REFERENCES meter(id),
    hour INTEGER NOT NULL,
    why TEXT NOT NULL,                 -- sent, before, foreign, audit, refused, sums: see buffer/doubts.py
    value INTEGER NOT NULL,            -- what a message added to the hour, or would have added
    adjusted INTEGER NOT NULL,         -- as much of that is adjustments
    shown INTEGER,                     -- what EnerKey showed for the hour; NULL: nothing
    seen_at INTEGER,                   -- when it did; NULL: it was not read
    message INTEGER,
    UNIQUE (meter, hour)
) STRICT;
CREATE INDEX doubt_foreign ON doubt (meter) WHERE why = 'foreign';
ALTER TABLE meter ADD COLUMN taken_over INTEGER
"""

SCHEMA_010 = """
CREATE TABLE size (                    -- what the file held on a day, and what was written on it: bytes
    day INTEGER PRIMARY KEY,           -- days since the epoch
    used INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT
"""

SCHEMA_011 = "CREATE INDEX hour_dropped ON hour (meter, hour) WHERE state = 'dropped'"
