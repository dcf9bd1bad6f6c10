"""SQLAlchemy: rows written as objects, and searched by statements that join them.

pip install 'mrl_db[embedded]' sqlalchemy alembic pgvector
cd examples/orm && alembic upgrade head && python app.py
alembic check      # the models are what the database has: nothing of mrl_db's would be dropped
"""

import os

import psycopg
from models import DIMS, Package
from pgvector.sqlalchemy import Vector
from sqlalchemy import cast, create_engine, delete, func, select
from sqlalchemy.orm import Session

import mrl_db
from mrl_db.faces.demo import load_packages

ROWS = 700


def packages():
    """Yields the first packages of those that mrl_db carries."""
    data = load_packages()
    for i in range(ROWS):
        yield Package(
            id=i,
            name=data.names[i],
            section=data.sections[i],
            description=data.descriptions[i],
            embedding=data.vectors[i],
        )


def nearest(embedding, k):
    """Packages with their distances: a statement like any other, to be filtered, joined, paged."""
    query = cast(embedding, Vector(DIMS))
    hit = func.mrl.search_packages(query, k).table_valued("id", "distance")
    return (
        select(Package, hit.c.distance).join(hit, hit.c.id == Package.id).order_by(hit.c.distance)
    )


if __name__ == "__main__":
    with mrl_db.connect(os.environ.get("MRL_DB_DSN")) as db:
        engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(db.dsn))
        with Session(engine) as session, session.begin():
            session.execute(delete(Package))
            session.add_all(packages())

        docs = db["packages"]
        with Session(engine) as session:
            query = session.scalars(select(Package.embedding).where(Package.name == "gimp")).one()
            for package, distance in session.execute(nearest(query, 3)):
                print(f"{distance:.3f} {package.name}: {package.description}")

            # mrl_db's own methods within the session's transaction see what it has written.
            mine = Package(id=ROWS, name="mine", section="misc", description="", embedding=query)
            session.add(mine)
            hits = docs.search(query, k=2, columns=["name"], connection=session)
            print("not committed:", [hit["name"] for hit in hits.to_list()])
            session.rollback()

        docs.load()  # from here on searches run in this process
        hits = docs.search(query, k=3, where={"section": "python"}, columns=["name"])
        print("in section python:", [hit["name"] for hit in hits.to_list()])
        engine.dispose()
