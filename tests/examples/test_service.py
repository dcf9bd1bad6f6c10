"""The service of FastAPI, asked over ASGI in one event loop, on a database of the test's own."""

import asyncio
import importlib.util
import json

import httpx
import psycopg
import pytest

from .conftest import EXAMPLES


@pytest.fixture
def service(dsn, monkeypatch):
    monkeypatch.setenv("MRL_DB_DSN", dsn)
    spec = importlib.util.spec_from_file_location("service", EXAMPLES / "service.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(importlib.sys.modules, "service", module)
    spec.loader.exec_module(module)
    return module


def asked(service, ask):
    """Runs a coroutine function with a client, between the service's start and its end."""

    async def main():
        async with service.app.router.lifespan_context(service.app):
            transport = httpx.ASGITransport(service.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://notes") as client:
                await ask(client)

    asyncio.run(main())


def test_notes_are_written_and_searched(service):
    async def ask(client):
        for id, vector in ((1, [1, 0, 0]), (2, [0, 1, 0]), (1, [1, 0, 1])):
            written = await client.put(f"/notes/{id}", json={"title": f"t{id}", "vector": vector})
            assert written.status_code == 204
        queries = [{"vector": [1, 0.1, 0.9], "k": k} for k in (1, 2)] * 10
        answers = await asyncio.gather(*(client.post("/search", json=each) for each in queries))
        assert [[hit["id"] for hit in each.json()] for each in answers] == [[1], [1, 2]] * 10
        found = await client.post("/search", json={"vector": [1, 0, 1], "title": "t2"})
        assert [hit["title"] for hit in found.json()] == ["t2"]

    asked(service, ask)
    asked(service, ask)  # the collection is there already


def test_a_vector_of_other_dims_is_refused_with_both_numbers(service):
    async def ask(client):
        refused = await client.post("/search", json={"vector": [1, 0]})
        assert refused.status_code == 422
        assert "2" in refused.json()["detail"]
        assert "3" in refused.json()["detail"]

    asked(service, ask)


@pytest.mark.parametrize("way", ["the client hangs up", "the task is cancelled", "time is up"])
def test_a_search_that_nobody_waits_for_ends_in_the_server(service, dsn, monkeypatch, way):
    async def ask(client):
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute(
                "LOCK TABLE service_notes IN ACCESS EXCLUSIVE MODE"
            )  # the search waits
            async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watch:
                gone = asyncio.Event()
                if way == "time is up":
                    monkeypatch.setattr(service, "SECONDS", 0.2)
                request = asyncio.ensure_future(post(service.app, {"vector": [1, 0, 0]}, gone))
                if way != "time is up":
                    await until(watch, 1)
                if way == "the client hangs up":
                    gone.set()
                if way == "the task is cancelled":
                    request.cancel()
                [status] = await asyncio.gather(request, return_exceptions=True)
                await until(watch, 0)
                want = {"the client hangs up": 499, "time is up": 504}
                assert status == want.get(way) or isinstance(status, asyncio.CancelledError)
        answer = await client.post("/search", json={"vector": [1, 0, 0]})
        assert answer.status_code == 200  # its connection lives

    asked(service, ask)


async def until(watch, waiting):
    """Waits until so many statements wait for a lock."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while (await (await watch.execute(statement)).fetchone())[0] != waiting:
        await asyncio.sleep(0.01)


async def post(app, query, gone):
    """Posts a search as a server does, whose client hangs up at an event; returns the status."""
    body = [{"type": "http.request", "body": json.dumps(query).encode(), "more_body": False}]
    sent = []

    async def receive():
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/search",
        "raw_path": b"/search",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "server": ("notes", 80),
        "client": ("test", 1),
    }
    await app(scope, receive, send)
    return sent[0]["status"]
