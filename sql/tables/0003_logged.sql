-- Which tables are logged, and until when.

CREATE TABLE mrl.logged (
    relation     regclass PRIMARY KEY,
    needed_until timestamptz NOT NULL
);
COMMENT ON TABLE mrl.logged IS
    'Tables whose changes are logged because somebody read them in a process: mrl.log_changes() '
    'makes the triggers, and mrl.unlog_unread() takes them away when nobody has for a week.';

INSERT INTO mrl.logged (relation, needed_until)
SELECT c.relation, now() + interval '7 days' FROM mrl.collection AS c;
