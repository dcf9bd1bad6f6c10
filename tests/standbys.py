"""A server, streaming standbys of it, and what is done to them."""

import contextlib
import os
import pwd
import shutil
import subprocess

import psycopg
from extension.clients import wait_for
from extension.conftest import Server
from psycopg import conninfo

from mrl_db.postgres.server import extension, programs

PORT = 5433  # of a standby's socket, in its primary's folder


def new_primary(folder, version, **settings):
    """A server whose WAL others may follow; `release()` its `embedded` in the end."""
    settings = {
        "wal_level": "replica",
        "max_wal_senders": "8",
        "wal_keep_size": "1GB",  # a standby that was behind would stay so
        "checkpoint_timeout": "1h",
        "wal_writer_delay": "10ms",
        "max_prepared_transactions": "20",
        **settings,
    }
    server = Server(folder, version, **settings)
    data = server.home / "server" / "data"
    users = {pwd.getpwuid(os.geteuid()).pw_name, pwd.getpwuid(data.stat().st_uid).pw_name}
    programs.let_in(data, *users)
    with (data / "pg_hba.conf").open("a") as hba:
        hba.write("local replication all peer map=mrl_db\n")
    with psycopg.connect(server.dsn, autocommit=True) as session:
        session.execute("SELECT pg_reload_conf()")
    return server


class Standby:
    """A streaming standby, started."""

    def __init__(self, server, port=PORT, **settings):
        settings = {
            "hot_standby_feedback": "on",
            "max_standby_streaming_delay": "500ms",
            **settings,
        }
        self.server, self.port, self.settings = server, port, settings
        self.data = server.home / f"standby {port}"
        self.dsn = conninfo.make_conninfo(server.dsn, port=port)
        self.make()
        self.start()

    def make(self):
        """Copies its primary; what was here goes."""
        server = self.server
        binaries, data = server.embedded.binaries, server.home / "server" / "data"
        shutil.rmtree(self.data, ignore_errors=True)
        copy = [binaries.program("pg_basebackup"), "-D", str(self.data), "-R", "-c", "fast"]
        subprocess.run([*copy, "-d", server.dsn], check=True, env=programs.environment())
        with (self.data / "postgresql.auto.conf").open("a") as written:
            written.writelines(f"{name} = '{value}'\n" for name, value in self.settings.items())
        for path in [self.data, *self.data.rglob("*")]:
            os.chown(path, data.stat().st_uid, data.stat().st_gid)

    def start(self):
        embedded = self.server.embedded
        program = extension.program(
            embedded.binaries.version, embedded.binaries.folder, embedded.home
        )
        options = ("-l", str(self.data / "log"), "-p", str(program), "-o", f"-p {self.port}")
        assert self._ctl("start", "-w", *options).returncode == 0

    def stop(self):
        self._ctl("stop", "-m", "immediate")

    def _ctl(self, *arguments):
        return programs.pg_ctl(self.server.embedded.binaries, self.data, *arguments)


@contextlib.contextmanager
def standby_of(server, **settings):
    """A standby of a server, which goes in the end."""
    standby = Standby(server, **settings)
    try:
        yield standby
    finally:
        standby.stop()
        shutil.rmtree(standby.data)


def catch_up(primary, standby):
    """Waits until a standby has all that was written, committed or not. Both are sessions."""
    primary.execute("SELECT pg_logical_emit_message(true, '', '')")  # its commit flushes all before
    sent = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
    replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
    wait_for(lambda: standby.execute(replayed, sent).fetchone()[0])


def promote(standby):
    """Makes a primary of the server of a session."""
    standby.execute("SELECT pg_promote()")
    wait_for(lambda: not standby.execute("SELECT pg_is_in_recovery()").fetchone()[0])


def stop(server):
    """Ends a server as a power cut would; its home stays."""
    data = server.home / "server" / "data"
    programs.pg_ctl(server.embedded.binaries, data, "stop", "-m", "immediate")
