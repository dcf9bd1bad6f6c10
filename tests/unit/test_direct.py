"""mrl_db.parts.direct: connections to actors past Ray, between two ends in this process."""

import os
import pickle
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from extension.clients import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from mrl_db.model.errors import ConnectError, NotLoadedError
from mrl_db.parts import direct
from mrl_db.parts.direct import Address, Caller, Listener

HOST = "127.0.0.1"
SECRET = b"s" * 32


def echo(message):
    return bytes(message)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine is no other end that does not answer."""
    monkeypatch.setattr(direct, "_CONNECT_SECONDS", 60.0)


@pytest.fixture
def listening():
    """Returns a Listener of an answer, and a Caller who knows where it is."""
    listeners = []

    def listening(answer=echo, secret=SECRET, at_once=16):
        listeners.append(Listener(HOST, SECRET, answer, at_once))
        caller = Caller(secret)
        caller.found(listeners[-1].address)
        return listeners[-1], caller

    yield listening
    for listener in listeners:
        listener.close()


def test_messages_of_every_length_come_back_also_over_a_line_that_was_used(listening):
    caller = listening()[1]

    @given(st.integers(0, 3_000_000), st.binary(max_size=20))
    @settings(max_examples=50, deadline=None)
    def same(length, end):
        message = bytes(length) + end
        assert caller.begin(message)(None) == message

    same()
    assert len(caller._lines) == 1


def test_many_threads_get_each_its_own_answers(listening):
    caller = listening()[1]

    def asks(thread):
        for number in range(100):
            message = b"%d %d" % (thread, number)
            assert caller.begin(message)(None) == message

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(asks, range(16)))
    assert len(caller._lines) <= 8


def test_many_messages_may_be_begun_before_the_first_is_waited_for(listening):
    callers = [listening()[1] for _ in range(4)]
    waits = [caller.begin(bytes([n]) * 8_000_000) for n, caller in enumerate(callers)]

    assert [wait(None)[-1] for wait in waits] == [0, 1, 2, 3]


def test_an_error_of_the_other_side_is_raised_here(listening):
    def fails(_):
        raise NotLoadedError("not loaded")

    caller = listening(fails)[1]
    for _ in range(2):
        with pytest.raises(NotLoadedError, match="not loaded"):
            caller.begin(b"")(None)
    assert len(caller._lines) == 1


def test_an_error_that_is_no_answer_ends_the_line(listening, capsys):
    def fails(_):
        raise ZeroDivisionError

    caller = listening(fails)[1]

    assert caller.begin(b"")(None) is None
    assert not caller._lines
    assert "ZeroDivisionError" in capsys.readouterr().err  # in an actor's log


@pytest.mark.parametrize("size", [1, 50_000_000], ids=["asked", "not even sent"])
def test_who_does_not_answer_in_time_is_left_and_a_late_answer_is_no_one_elses(listening, size):
    go = threading.Event()

    def answer(message):
        if message[:1] == b"a":
            assert go.wait(30)
        return bytes(message[:1])

    listener, caller = listening(answer)
    if size == 1:
        wait = caller.begin(b"a")
    else:  # a line whose other end does not read
        caller._lines.append(held := caller._line())
        ours, theirs = socket.socketpair()
        held._line.close()
        held._line = ours
        wait = caller.begin(b"a" * size)
    with pytest.raises(ConnectError, match="timeout="):
        wait(0.05)
    if size > 1:
        theirs.close()
    go.set()

    caller.found(listener.address)
    assert caller.begin(b"b")(30) == b"b"


def test_with_no_time_left_an_answer_that_is_there_is_taken(listening):
    go = threading.Event()

    def answer(message):
        assert go.wait(30)
        return bytes(message)

    caller = listening(answer)[1]
    caller._lines.append(line := caller._line())
    wait = caller.begin(b"x")
    go.set()
    select.select([line._line], [], [])
    assert wait(0.0) == b"x"

    go.clear()
    wait = caller.begin(b"y")
    with pytest.raises(ConnectError, match="timeout="):
        wait(0.0)
    go.set()


def test_who_does_not_know_the_secret_is_not_answered_and_nothing_of_his_is_unpickled(listening):
    asked = []
    listener, other = listening(lambda message: asked.append(message) or b"", b"another")

    assert other.begin(b"x") is None
    with socket.create_connection(listener.address) as line:
        bomb = pickle.dumps(pytest.fail)
        line.sendall(len(bomb).to_bytes(8, "little") + bomb)
        line.settimeout(30)
        while line.recv(4096):
            pass
    with socket.create_connection(listener.address) as line:  # a length that is a lie
        line.sendall((2**60).to_bytes(8, "little"))
        line.settimeout(30)
        while line.recv(4096):
            pass
    assert asked == []


def test_an_end_that_went_away_is_noticed_and_where_it_is_now_is_taken(listening):
    listener, caller = listening()
    assert caller.begin(b"x")(None) == b"x"
    listener.close()
    caller._lines.clear()

    assert caller.begin(b"y") is None
    caller.found(listening()[0].address)
    assert caller.begin(b"z")(None) == b"z"
    caller.found(None)
    assert caller.begin(b"z") is None


def test_a_line_that_was_cut_while_nobody_used_it_is_no_answer(listening):
    caller = listening()[1]
    assert caller.begin(b"x")(None) == b"x"
    caller._lines[0]._line.shutdown(socket.SHUT_RDWR)

    assert caller.begin(b"y")(None) == b"y"


def test_an_address_that_cannot_be_reached_is_tried_once(monkeypatch):
    tried = []

    def connect(*_):
        tried.append(1)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    caller = Caller(SECRET)
    for _ in range(3):
        caller.found(Address(HOST, 1))
        assert caller.begin(b"x") is None
    assert tried == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_lines_of_its_own(listening):
    caller = listening()[1]
    assert caller.begin(b"x")(None) == b"x"
    wait = caller.begin(b"of the parent")
    child = os.fork()
    if not child:
        os._exit(caller.begin(b"of the child")(None) != b"of the child" if not caller._lines else 2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert wait(None) == b"of the parent"


def test_who_gave_up_is_not_searched_for(listening):
    """What waits its turn in an actor that is busy, and whose asker has gone, is not done."""
    go, done = threading.Event(), []

    def answer(message):
        done.append(bytes(message))
        assert go.wait(30)
        return b""

    listener, caller = listening(answer, at_once=1)
    first = caller.begin(b"first")
    wait_for(lambda: done)
    for wait in [caller.begin(b"%d" % n) for n in range(5)]:
        with pytest.raises(ConnectError):
            wait(0.0)
    go.set()
    assert first(None) == b""

    caller.found(listener.address)
    assert caller.begin(b"new")(None) == b""
    assert done == [b"first", b"new"]


def test_an_end_that_hangs_is_not_connected_to_again_until_it_has_answered_ray(
    listening, monkeypatch
):
    go = threading.Event()
    listener, caller = listening(lambda message: b"" if go.wait(30) else message)
    wait = caller.begin(b"x")
    with pytest.raises(ConnectError):
        wait(0.0)
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", None)

    assert caller.begin(b"y") is None
    monkeypatch.setattr(socket, "create_connection", connect)
    assert caller.begin(b"z") is None
    go.set()
    caller.found(listener.address)
    assert caller.begin(b"z")(None) == b""


@pytest.mark.parametrize("said", [b"", b"\x14" + bytes(7) + b"HELLO WORLD, I AM HE", b"HTTP/1.1"])
def test_a_stranger_at_the_address_is_no_one_to_ask(said):
    with socket.create_server((HOST, 0)) as server:

        def greet():
            with server.accept()[0] as line:
                line.sendall(said)

        thread = threading.Thread(target=greet)
        thread.start()
        caller = Caller(SECRET)
        caller.found(Address(*server.getsockname()))
        thread.join()

    assert caller.begin(b"x") is None


def test_what_is_longer_than_the_system_waits_for_is_waited_for(listening):
    caller = listening()[1]
    for seconds in (1e10, 4_294_968.0):
        assert caller.begin(b"x")(seconds) == b"x"
