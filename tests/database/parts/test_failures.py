"""Parts that are gone, and writes that some servers have."""

import time

import numpy as np
import psycopg
import pytest
from parted import N, assert_same, tied
from psycopg import conninfo
from psycopg import sql as psql

import mrl_db
from mrl_db.parts import home_of


def refuse(server, dsn, allowed):
    """Ends a database's connections and lets no more in, or lets them in again."""
    name = conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(
            psql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                psql.Identifier(name), psql.Literal(allowed)
            )
        )
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )


def wait_until_all_are_back(parted):
    """A pool that found no server tries again after a while, which becomes longer each time."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return parted.count()
        except mrl_db.ConnectError:
            assert time.monotonic() < deadline, "a server that is there again is not asked"


@pytest.mark.superuser
def test_a_part_that_is_gone_is_named_or_left_out_and_said_so(three, server, servers, rng):
    query = tied(rng, 1)[0]
    complete = three.search(query, k=30)
    refuse(server, servers[1], False)
    try:
        with pytest.raises(mrl_db.PartUnavailableError, match="server 1") as raised:
            three.search(query, k=30, timeout=20.0)
        assert raised.value.parts == (1,)
        hits = three.search(query, k=30, partial=True, timeout=20.0)
    finally:
        refuse(server, servers[1], True)

    assert hits.missing == (1,)
    assert "missing=(1,)" in repr(hits)
    assert not hits.certified
    assert hits.trace.promise is None
    there = [key for key in complete.ids.tolist() if home_of(key, 3) != 1]
    assert [key for key in hits.ids.tolist() if key in there] == there
    wait_until_all_are_back(three)
    assert_same(three.search(query, k=30), complete)


@pytest.mark.superuser
def test_a_write_that_some_servers_have_is_completed_by_the_same_call(three, server, servers, rng):
    vectors = tied(rng, 40)
    refuse(server, servers[2], False)
    try:
        with pytest.raises(mrl_db.PartlyWrittenError, match="server 2 has not") as raised:
            three.add(np.arange(1000, 1040), vectors, year=[1] * 40)
        assert raised.value.servers == (2,)
        assert raised.value.batch_id in str(raised.value)
    finally:
        refuse(server, servers[2], True)

    wait_until_all_are_back(three)
    again = three.add(np.arange(1000, 1040), vectors, year=[1] * 40, batch_id=raised.value.batch_id)
    assert again == 40
    assert three.count() == N + 40
    with pytest.raises(mrl_db.DuplicateKeyError):
        three.add([1000], vectors[:1], year=[1])


def test_a_part_that_takes_too_long_is_given_up(three, servers, rng):
    query = tied(rng, 1)[0]
    with psycopg.connect(servers[0]) as holder:
        holder.execute("LOCK TABLE docs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(mrl_db.PartUnavailableError, match=r"server 0.*within timeout="):
            three.search(query, timeout=0.3)
        assert 0 in three.search(query, timeout=1.0, partial=True).missing
        holder.rollback()

    assert three.search(query).missing == ()
