-- What lets a standby read the change log, where nobody can register: how long changes are kept
-- whoever has seen them, and up to where the log was cut.

ALTER TABLE mrl.logged ADD COLUMN retain interval CHECK (retain > interval '0');
COMMENT ON COLUMN mrl.logged.retain IS
    'How long changes are kept for readers on standbys, for whose sake the triggers stay too '
    '(mrl.log_for_standbys()); NULL: a quarter of an hour while a standby is there.';

CREATE TABLE mrl.cut (
    relation oid PRIMARY KEY,
    xid      xid8 NOT NULL
);
COMMENT ON TABLE mrl.cut IS
    'Up to where the log of a table was cut: the last transaction whose changes were removed. A '
    'reader on a standby that has not seen it compares rows.';

CREATE TABLE mrl.moment (
    at     timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    oldest xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot())
);
COMMENT ON TABLE mrl.moment IS
    'By which transactions changes are told to be old: all before `oldest` had ended `at` a moment.';
