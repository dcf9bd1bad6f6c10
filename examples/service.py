"""A search service: FastAPI over asyncio; a client that hangs up cancels its statement.

pip install 'mrl_db[embedded,async]' fastapi uvicorn
uvicorn --app-dir examples service:app       # MRL_DB_DSN names a server; else an embedded one
curl -X PUT localhost:8000/notes/1 --json '{"title": "one", "vector": [1, 0, 0]}'
curl localhost:8000/search --json '{"vector": [1, 0.1, 0], "k": 3}'
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import mrl_db

SECONDS = 5.0  # that a search may take


class Note(BaseModel):
    """What is written."""

    title: str
    vector: list[float]


class Query(BaseModel):
    """What is searched for."""

    vector: list[float]
    k: int = Field(default=10, ge=1, le=100)
    title: str | None = None


@asynccontextmanager
async def lifespan(app):
    """Opens the connections before the first request, and closes them after the last."""
    async with await mrl_db.connect_async(os.environ.get("MRL_DB_DSN"), pool_size=8) as db:
        app.state.notes = await db.create_collection(
            "service_notes", dims=3, columns={"title": "text"}, if_exists="open"
        )
        yield


app = FastAPI(title="notes", lifespan=lifespan)


@app.exception_handler(mrl_db.ShapeError)
async def refuse(_, error):
    """A vector of other dims is the client's fault; the message has both."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.put("/notes/{id}", status_code=204)
async def put(id: int, note: Note):
    """Writes a note, or replaces it."""
    await app.state.notes.upsert([id], [note.vector], title=[note.title])


@app.post("/search")
async def search(query: Query, request: Request):
    """Returns the nearest notes, of those whose title is like one."""
    where = None if query.title is None else {"title": {"$like": query.title}}
    work = app.state.notes.search(query.vector, k=query.k, where=where, columns=["title"])
    return (await while_connected(request, work)).to_list()


async def while_connected(request, work):
    """Awaits work; if the client goes, or time is up, it is cancelled, in PostgreSQL too."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HTTPException(499 if gone.done() else 504, "cancelled")
    finally:
        task.cancel()
        gone.cancel()
