"""Rights, connections and the embedded server."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

import mrl_db
from mrl_db.postgres.server import embedded

SECRET = "S3CRET-canary"


@pytest.fixture
def role(server, dsn):
    """The connection string of a role that is no superuser and owns nothing but a schema of its own."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain_role")
        connection.execute("CREATE ROLE plain_role LOGIN")
        connection.execute("GRANT CREATE ON DATABASE " + connection.info.dbname + " TO plain_role")
        connection.execute("CREATE SCHEMA AUTHORIZATION plain_role")
    yield conninfo.make_conninfo(dsn, user="plain_role")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP OWNED BY plain_role CASCADE; DROP ROLE plain_role")


@pytest.mark.superuser
def test_no_superuser_is_needed_where_pgvector_is(role, dsn, execute, rng):
    execute("DROP SCHEMA mrl CASCADE")

    with mrl_db.connect(role) as db:
        docs = db.create_collection("docs", dims=8, nesting_dims=(4, 8), schema="plain_role")
        docs.add(range(50), rng.standard_normal((50, 8)))
        docs.create_index()
        assert docs.upsert([1], rng.standard_normal((1, 8))) == 1
        assert docs.search(rng.standard_normal(8), k=5).ids.shape == (5,)
        assert docs.search(rng.standard_normal(8), k=5, exact=True).ids.shape == (5,)
        db.drop("docs")


@pytest.mark.superuser
def test_a_role_without_rights_gets_a_clear_error(db, role):
    with pytest.raises(mrl_db.PrivilegeError, match="permission denied"):
        mrl_db.connect(role)


@pytest.mark.superuser
def test_row_level_security_stays_in_force_in_sql(db, role, execute, rng):
    docs = db.create_collection("docs", dims=4)
    docs.add(range(20), rng.standard_normal((20, 4)))
    execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON docs USING (id < 5)")
    execute(
        "GRANT USAGE ON SCHEMA mrl TO plain_role; GRANT SELECT ON ALL TABLES IN SCHEMA mrl TO plain_role; GRANT SELECT ON docs TO plain_role"
    )

    with mrl_db.connect(role) as other:
        for exact in (False, True):
            assert sorted(
                other.open("docs").search([1.0, 0, 0, 0], k=10, exact=exact).ids.tolist()
            ) == [0, 1, 2, 3, 4]


@pytest.mark.superuser
def test_a_database_without_pgvector_gets_it_or_a_clear_error(server, dsn, role, execute):
    execute("DROP EXTENSION vector CASCADE; DROP SCHEMA mrl CASCADE")

    with pytest.raises(mrl_db.ServerError, match="CREATE EXTENSION vector"):
        mrl_db.connect(role)
    mrl_db.connect(dsn).close()


@pytest.mark.superuser
@pytest.mark.parametrize("version", ["0.7.4", "0.5"])
def test_an_old_pgvector_is_refused(dsn, execute, version):
    execute("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", [version])

    with pytest.raises(mrl_db.ServerError, match=f"pgvector here is {version}, wanted 0.8"):
        mrl_db.connect(dsn)


@pytest.mark.parametrize(
    "bad",
    [
        f"postgresql://me:{SECRET} with spaces@127.0.0.1:1/x",
        f"postgresql://me:{SECRET}@[::1/x",
        f"host=127.0.0.1 port=1 password={SECRET}",
        f"postgresql://me:{SECRET}@127.0.0.1:1/x",
        f"postgresql://me:{SECRET}%zz@127.0.0.1:1/x",
        f"nonsense {SECRET}",
    ],
)
def test_no_error_shows_the_password(bad):
    with pytest.raises(mrl_db.ConnectError) as caught:
        mrl_db.connect(bad, connect_timeout=2)

    error = caught.value
    assert SECRET not in str(error)
    assert SECRET not in repr(error)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_repr_shows_where_but_not_how(db, dsn):
    assert "dbname" not in repr(db)
    assert db.dsn == dsn
    assert "postgres@" not in repr(db)


def test_options_of_the_embedded_server_go_with_no_dsn(dsn):
    with pytest.raises(mrl_db.ValueRangeError, match="embedded server"):
        mrl_db.connect(dsn, home="/nowhere")


@pytest.mark.carried
def test_the_embedded_server_is_shared_and_stops_with_its_last_user(tmp_path, postgres_version):
    home = tmp_path / "a home with spaces"
    first = mrl_db.connect(home=home, postgres_version=postgres_version)
    assert first.server_version == postgres_version
    code = "import mrl_db, sys\nwith mrl_db.connect(home=sys.argv[1]) as db: print(db.list())"
    other = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True, cwd="/"
    )
    assert other.stdout.strip() == "[]"
    second = mrl_db.connect(home=home)
    first.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])
    first.close()
    assert second.open("docs").count() == 1
    second.close()

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(second.dsn)
    with mrl_db.connect(home=home) as again:
        assert again.open("docs").count() == 1


@pytest.mark.carried
def test_processes_that_come_at_once_share_one_new_server(tmp_path, postgres_version):
    """initdb, the start, the extension and the schema are each made by one of them, and all find them."""
    code = (
        "import mrl_db, sys\n"
        "with mrl_db.connect(home=sys.argv[1], postgres_version=int(sys.argv[2])) as db:\n"
        "    db.create_collection(sys.argv[3], dims=2).add([1], [[1.0, 0.0]])"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "home"), str(postgres_version)]
    started = [
        subprocess.Popen([*arguments, f"c{i}"], cwd="/", stderr=subprocess.PIPE, text=True)
        for i in range(5)
    ]

    said = [process.communicate()[1] for process in started]

    assert [process.returncode for process in started] == [0] * 5, said
    with mrl_db.connect(home=tmp_path / "home") as db:
        assert db.list() == [f"c{i}" for i in range(5)]


def test_a_killed_server_is_started_anew_with_all_that_was_acknowledged(tmp_path, postgres_version):
    import signal

    db = mrl_db.connect(home=tmp_path / "home", postgres_version=postgres_version)
    db.create_collection("docs", dims=2).add([1], [[1.0, 0.0]])
    os.kill(
        int((tmp_path / "home" / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL
    )

    with mrl_db.connect(home=tmp_path / "home") as again:
        assert again.open("docs").count() == 1
    db.close()


def test_a_server_that_is_busy_with_a_crash_is_not_waited_for_as_a_dead_one(
    tmp_path, postgres_version, monkeypatch
):
    """It closes connections for a moment, answers again, and was never gone."""
    monkeypatch.setattr(embedded, "_REAP_SECONDS", 0)
    with mrl_db.connect(home=tmp_path / "home", postgres_version=postgres_version) as db:
        server, answers, asked = db._session._revive.__self__, embedded.EmbeddedServer._answers, []

        def closed_at_first(self):
            asked.append(len(asked))
            return len(asked) > 1 and answers(self)

        monkeypatch.setattr(embedded.EmbeddedServer, "_answers", closed_at_first)
        started = (tmp_path / "home" / "data" / "postmaster.pid").read_text()
        server.revive()
        assert len(asked) == 2
        assert (tmp_path / "home" / "data" / "postmaster.pid").read_text() == started
        assert db.list() == []


def test_a_dead_client_leaves_no_server_behind_for_ever(tmp_path, postgres_version):
    """The kernel drops a dead process's lock: the next user is then the last one, and stops the server."""
    code = "import mrl_db, os, sys\ndb = mrl_db.connect(home=sys.argv[1], postgres_version=int(sys.argv[2]))\nos.kill(os.getpid(), 9)"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "home"), str(postgres_version)],
        check=False,
        cwd="/",
    )

    db = mrl_db.connect(home=tmp_path / "home")
    db.close()

    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(db.dsn)


def test_the_embedded_folders_are_private_and_no_parent_is_touched(tmp_path, postgres_version):
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o700)
    with mrl_db.connect(home=parent / "home", postgres_version=postgres_version) as db:
        assert oct(parent.stat().st_mode & 0o777) == "0o700"
        assert oct((parent / "home").stat().st_mode & 0o777) == "0o700"
        assert oct((parent / "home" / "data").stat().st_mode & 0o777) == "0o700"
        with psycopg.connect(db.dsn) as connection:
            settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert settings["listen_addresses"] == ""
    assert settings["jit"] == "off"
    assert int(settings["maintenance_work_mem"]) >= 64 * 1024
    assert settings["fsync"] == "on"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755])
def test_a_folder_that_was_there_keeps_its_permissions(tmp_path, mode, postgres_version):
    """Folders that others could write to are refused; as root also those that they could enter, as the cluster there is nobody's."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    refused = mode & (0o077 if os.geteuid() == 0 else 0o022)

    if refused:
        with pytest.raises(mrl_db.ServerError, match="open to other users"):
            mrl_db.connect(home=home, postgres_version=postgres_version)
    else:
        mrl_db.connect(home=home, postgres_version=postgres_version).close()

    assert home.stat().st_mode & 0o777 == mode


@pytest.mark.carried
def test_another_version_than_the_clusters_is_refused(server, tmp_path, postgres_version):
    other = {16: 18, 18: 16}[postgres_version]

    with pytest.raises(mrl_db.ServerError, match=f"PostgreSQL {other} was asked for"):
        mrl_db.connect(home=server.server.home, postgres_version=other)


def test_a_home_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(mrl_db.ServerError, match="MRL_DB_HOME"):
        mrl_db.connect(home=tmp_path / "file")


def test_a_very_long_path_still_gets_a_socket(tmp_path, postgres_version):
    home = tmp_path / ("x" * 100) / ("y" * 100)

    with mrl_db.connect(home=home, postgres_version=postgres_version) as db:
        assert db.list() == []


def test_the_package_carries_its_sql():
    assert (resources.files("mrl_db") / "sql").is_dir() or (
        Path(mrl_db.__file__).parents[1] / "sql"
    ).is_dir()
