"""The coordinator and its first part are databases of a PostgreSQL with dblink; the second part is on
a server of its own, which the tests stop and start.
"""

import contrib
import psycopg
import pytest
from database.servers.places import Place, foreign_server, knowing_passwords, make, psql
from extension.conftest import Server


@pytest.fixture(scope="package")
def first(tmp_path_factory):
    """The server with dblink."""
    folder = contrib.installation(tmp_path_factory.mktemp("contrib") / "programs")
    with contrib.in_place_of_the_carried(folder) as major:
        server = Server(tmp_path_factory.mktemp("first"), major)
    knowing_passwords(server)
    yield server
    server.embedded.release()


@pytest.fixture(scope="package")
def second(first, tmp_path_factory, postgres_version):
    server = Server(tmp_path_factory.mktemp("second"), postgres_version)
    knowing_passwords(server)
    yield server
    server.embedded.release()


@pytest.fixture(scope="package")
def places(first, second):
    """The coordinator, its two parts, and a database that holds everything: with nothing in them."""
    coordinator = Place(first, "coordinator")
    coordinator.execute("CREATE EXTENSION vector; CREATE EXTENSION dblink")
    assert psql(second, coordinator, "install.sql").returncode == 0
    said = psql(second, coordinator, "parts.sql")
    assert (said.stderr, said.returncode) == ("", 0)
    parts = [Place(first, "part_1"), Place(second, "part_2")]
    whole = Place(first, "whole")
    for place in (*parts, whole):
        place.install()
    for number, place in enumerate(parts, 1):
        coordinator.execute(foreign_server(f"s{number}", place))
    return coordinator, parts, whole


@pytest.fixture
def docs(places):
    """Two rows in two parts, attached: the coordinator and the parts."""
    coordinator, parts, _ = places
    for number, place in enumerate(parts, 1):
        make(place, rows=[(number, [1, number])])
    coordinator.execute("SELECT mrl.attach_parts('docs', servers => ARRAY['s1', 's2'])")
    yield coordinator, parts
    coordinator.execute("SELECT mrl.detach_parts(name) FROM mrl.parted")
    for place in parts:
        place.execute("SELECT mrl.drop_collection(name) FROM mrl.collection")


@pytest.fixture
def session(docs):
    """A session on the coordinator, whose notices are in `session.notices`."""
    with psycopg.connect(docs[0].dsn, autocommit=True) as opened:
        opened.notices = []
        opened.add_notice_handler(lambda said: opened.notices.append(said.message_primary))
        yield opened
