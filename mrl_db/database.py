"""A database: an embedded PostgreSQL or one of yours, and the collections in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from psycopg_pool import ConnectionPool

from mrl_db import rewriting
from mrl_db.collection import Collection, embedding, open_collection
from mrl_db.collection.opened import Embed
from mrl_db.door import checked_choice
from mrl_db.door_dims import checked_widths
from mrl_db.learn.layer_norm import LayerNorm
from mrl_db.learn.transform import Transform, check_transform
from mrl_db.lifetime import let_out_at_exit
from mrl_db.model.errors import CollectionExistsError, ValueRangeError
from mrl_db.model.key import KeyName
from mrl_db.model.metric import Metric, MetricName
from mrl_db.model.nesting import dims_of, rule_of
from mrl_db.postgres import catalog, changes, fitting, health, migrations
from mrl_db.postgres.borrowed import BorrowedPool
from mrl_db.postgres.server import embedded
from mrl_db.postgres.session import OwnSession, PoolSession
from mrl_db.recall.query_log import QueryLog
from mrl_db.rewriting import LowDim

AnySession = TypeVar("AnySession", bound=OwnSession)
Pooled = TypeVar("Pooled", bound=PoolSession)


@let_out_at_exit
class Database:
    """A pool of connections to a database with the schema mrl; close it, or use it in `with`."""

    def __init__(
        self,
        session: OwnSession,
        server: embedded.EmbeddedServer | None,
        *,
        query_log: bool = True,
    ) -> None:
        """Not for callers: use `mrl_db.connect`."""
        self._session = session
        self._server = server
        self._query_log = query_log

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self._session.where})"

    @property
    def dsn(self) -> str:
        """The connection string, for other clients. It may hold a password: do not log it."""
        return self._session.dsn

    @property
    def server_version(self) -> int:
        """PostgreSQL's major version."""
        return self._session.server.version

    @property
    def pgvector_version(self) -> str:
        """The version of the extension vector in this database."""
        return self._session.server.pgvector

    @property
    def extension_version(self) -> str | None:
        """The version of the extension mrl_db in this database; None where it is not there.

        `connect()` creates it where the server has it and the role may. Without it searches in
        PostgreSQL go by pgvector's HNSW.
        """
        return self._session.server.extension

    def extension_health(self) -> health.ExtensionHealth:
        """Returns what the server has of the extension mrl_db, and what is to be done about it."""
        return health.extension_health(self._session)

    @property
    def server(self) -> embedded.EmbeddedServer | None:
        """The embedded server, or None for a server of yours."""
        return self._server

    def close(self) -> None:
        """Closes the connections; an embedded server stops with its last user."""
        self._session.close()
        if self._server is not None:
            self._server.release()

    def create_collection(
        self,
        name: str,
        *,
        dims: int | None = None,
        nesting_dims: Sequence[int] | None = None,
        shortlist_dims: int | None = None,
        metric: Metric | MetricName = Metric.cosine,
        key_type: KeyName = "bigint",
        columns: Mapping[str, str] | None = None,
        schema: str | None = None,
        adaptor: Transform | None = None,
        metadata: bool = False,
        vectors_required: bool = True,
        text: str | None = None,
        language: str = "english",
        model: str | None = None,
        embed: Embed | None = None,
        embed_query: Embed | None = None,
        if_exists: Literal["error", "open"] = "error",
    ) -> Collection:
        """Creates a table with a key `id`, vectors `embedding` and the low-dim column.

        Args:
            name: Of the collection and of its table.
            dims: Of every vector; not needed with `model`.
            nesting_dims: The rising widths at which the model's vectors may be cut, the last dims.
            shortlist_dims: Width of the low-dim column; by default the narrowest nesting dims of at
                least 128.
            metric: A `Metric`, or its name.
            key_type: "bigint", "integer", "smallint", "uuid" or "text".
            columns: Metadata, name to SQL type.
            schema: Of the table; by default the first of the search path.
            adaptor: A `mrl_db.learn.Rotation` or `Adaptor`, kept in the catalogue: every vector
                that is written or searched for through a collection's methods goes through it.
            metadata: Adds the column `meta` of type jsonb, for whatever a row has besides: filters
                reach into it, `{"meta.year": {"$gte": 2020}}`.
            vectors_required: False takes rows without a vector, too: all methods but searches see
                them.
            text: A column of text that is searched by its words, too (`search(text=)`); it is made
                where `columns` does not have it.
            language: PostgreSQL's text search configuration for it: "english", "simple", ….
            model: A name in `mrl_db.model.nesting.RULES`, whose full vectors are stored: it says
                dims and nesting dims, and whether vectors are layer-normalised before a cut.
            embed: As for `open`, and `embed_query` likewise.
            if_exists: "open" returns the collection of this name where there is one that has all
                that is given here; what is left to defaults may differ, and it may have further
                columns.

        Raises:
            CollectionExistsError: The name is taken, or what is there does not fit.
            ValueRangeError: An argument cannot be meant.
        """
        embedding.checked(embed, embed_query)
        catalog.check_text(text, language)
        if nesting_dims is not None:
            nesting_dims = checked_widths(nesting_dims)
        if model is not None:
            dims, nesting_dims = dims_of(model, dims, nesting_dims, shortlist_dims)
            if rule_of(model).layer_norm:
                if adaptor is not None:
                    raise ValueRangeError(
                        f"{model} has its vectors layer-normalised, beside which no adaptor= can be"
                    )
                adaptor = LayerNorm(dims)
        if dims is None:
            raise ValueRangeError("create_collection() takes dims= or model=, one at least")
        if not isinstance(columns, Mapping | None):
            raise ValueRangeError(f"columns is {columns!r:.60}, wanted a dict of name and SQL type")
        if metadata and (columns or {}).get("meta", "jsonb") != "jsonb":
            raise ValueRangeError(
                "metadata=True makes a column meta of type jsonb, and columns= has another one of "
                "that name; leave one of them out"
            )
        definition = catalog.Definition(
            name,
            dims,
            nesting_dims,
            shortlist_dims,
            Metric.of(metric),
            key_type,
            {
                **(columns or {}),
                **({"meta": "jsonb"} if metadata else {}),
                **({} if text is None or text in (columns or {}) else {text: "text"}),
            },
            schema,
            vectors_required,
            text,
            language,
        )
        stored = None
        if adaptor is not None:
            stored = check_transform(adaptor, definition.dims, definition.metric).to_bytes()
        checked_choice(if_exists, "if_exists", ("error", "open"))
        try:
            with self._session.transaction() as connection:
                catalog.create(connection, definition, stored)
        except CollectionExistsError:
            if if_exists == "error" or name not in self:
                raise
            fitting.check_fit(self._session, definition, stored)
        return self.open(name, embed=embed, embed_query=embed_query)

    def attach(
        self,
        table: str,
        *,
        vector: str = "embedding",
        key: str = "id",
        name: str | None = None,
        dims: int | None = None,
        nesting_dims: Sequence[int] | None = None,
        shortlist_dims: int | None = None,
        metric: Metric | MetricName = Metric.cosine,
        low_dim: LowDim = "auto",
        key_unique: bool = False,
        text: str | None = None,
        language: str = "english",
    ) -> Collection:
        """Makes a collection of a table that exists already, with the data in it.

        Args:
            table: As SQL writes it, 'public.articles' or 'public."My Table"'.
            vector: Its column of type vector or halfvec.
            key: Its unique column of type bigint, integer, smallint, uuid or text.
            name: Of the collection; by default the table's.
            dims: Only where the column's type does not say them.
            nesting_dims: As for `create_collection`.
            shortlist_dims: As for `create_collection`.
            metric: As for `create_collection`.
            low_dim: "column" adds the stored low-dim column, which rewrites the table under an
                exclusive lock; "index" leaves the table alone and indexes the expression; "auto"
                adds the column to tables up to 512 MB, and otherwise uses the index and says so in
                a LargeTableWarning.
            key_unique: Of a table that is partitioned by other columns than its key, where no index
                can say so: whether whatever makes the keys makes each once.
            text: A column that is searched by its words, too; the tsvector that is added for it
                rewrites the table.
            language: As for `create_collection`.
        """
        relation, size = catalog.find_table(self._session, table)
        attached = catalog.attach(
            self._session,
            relation,
            name=name,
            vector=vector,
            key=key,
            dims=dims,
            nesting_dims=nesting_dims,
            shortlist_dims=shortlist_dims,
            metric=Metric.of(metric),
            low_dim=rewriting.chosen(low_dim, table, size),
            key_unique=key_unique,
            text=text,
            language=language,
        )
        return self.open(attached)

    def open(
        self, name: str, *, embed: Embed | None = None, embed_query: Embed | None = None
    ) -> Collection:
        """Returns a collection by its name; raises CollectionNotFoundError.

        Args:
            name: Of the collection.
            embed: A function that makes vectors (n, dims) of a list of n texts, for `add_texts` and
                `search_text`; this object keeps it.
            embed_query: Another one for what is searched for; None: the same.
        """
        log = QueryLog() if self._query_log else QueryLog(keep=0)
        return open_collection(self._session, name, log, embedding.checked(embed, embed_query))

    def __getitem__(self, name: str) -> Collection:
        return self.open(name)

    def __contains__(self, name: object) -> bool:
        return name in self.list()

    def __iter__(self) -> Iterator[str]:
        return iter(self.list())

    def drop(self, name: str) -> None:
        """Drops a collection, with its table if it was created here.

        An attached table stays, without what attach() added.
        """
        catalog.drop(self._session, name)

    def list(self) -> list[str]:
        """Returns the names of all collections, sorted."""
        return catalog.list_collections(self._session)


def connect(
    dsn: str | None = None,
    *,
    home: Path | str | None = None,
    postgres_version: int | None = None,
    settings: Mapping[str, str] | None = None,
    pool_size: int = 4,
    connect_timeout: float = 10.0,
    statement_timeout: float | None = None,
    prepare: bool = True,
    query_log: bool = True,
    pool: ConnectionPool[Any] | None = None,
) -> Database:
    """Connects to a server, or starts or joins an embedded one, and updates the schema mrl.

    Args:
        dsn: Of any server with pgvector 0.8 or later; no superuser is needed where the extension is
            there already. None: an embedded server, which every process that connects shares and
            which stops with the last one.
        home: Its folder; by default MRL_DB_HOME or the user's data folder.
        postgres_version: 18 (default) or 16, for a new embedded cluster.
        settings: Further lines of its configuration.
        pool_size: Connections at most.
        connect_timeout: Seconds.
        statement_timeout: Seconds. A statement that takes longer raises CancelledError; a server
            that says nothing for two seconds more, ConnectError. Where a pooler passes no settings
            on (PgBouncer), the statement is cancelled from here.
        prepare: False where a pooler in between cannot keep prepared statements; nothing else here
            needs a session of its own.
        query_log: Whether collections remember some queries in memory, to tune with and to notice
            when they change in kind (docs/recall.md); they are never written anywhere.
        pool: A `psycopg_pool.ConnectionPool` of yours instead of a dsn, which is left as it is:
            sizes and timeouts are its own, and `close()` leaves it open.

    Raises:
        ConnectError, ServerError, MigrationError: No message shows the connection string.
    """
    if pool is not None:
        if dsn is not None or home is not None:
            raise ValueRangeError("pool= and a dsn or home= were both given; a pool has its own")
        return Database(_installed(BorrowedPool(pool)), None, query_log=query_log)
    database, _ = open_database(
        PoolSession,
        dsn,
        home=home,
        postgres_version=postgres_version,
        settings=settings,
        query_log=query_log,
        pool_size=pool_size,
        connect_timeout=connect_timeout,
        statement_timeout=statement_timeout,
        prepare=prepare,
    )
    return database


def open_database(
    kind: type[Pooled],
    dsn: str | None,
    *,
    home: Path | str | None,
    postgres_version: int | None,
    settings: Mapping[str, str] | None,
    query_log: bool,
    **options: Any,
) -> tuple[Database, Pooled]:
    """Returns a database, and its session of one kind; the arguments are those of `connect`."""
    if dsn is not None:
        if home is not None or postgres_version is not None or settings is not None:
            raise ValueRangeError(
                "home, postgres_version and settings are for the embedded server; a dsn names a "
                "server of yours"
            )
        session = _installed(kind(dsn, **options))
        return Database(session, None, query_log=query_log), session
    server = embedded.EmbeddedServer(
        embedded.default_home() if home is None else home,
        version=postgres_version,
        settings=settings,
    )
    try:
        session = _installed(kind(server.dsn, revive=server.revive, **options))
        return Database(session, server, query_log=query_log), session
    except BaseException:
        server.release()
        raise


def _installed(session: AnySession) -> AnySession:
    """Returns the session once the schema mrl is there and up to date."""
    try:
        migrations.install(session)
        with session.connection() as connection:
            changes.trim(connection)
    except BaseException:
        session.close()
        raise
    return session
