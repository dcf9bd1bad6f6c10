"""The lives of test_model.py on partitioned tables, whose partitions come and go meanwhile."""

import itertools
import os

import hypothesis.strategies as st
import pytest
from faults import test_model
from faults.test_model import METRICS, STEPS, VECTORS, Life, text, ways, which, years
from hypothesis import Phase, settings
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from psycopg import sql

life = test_model.life  # the fixture
_names = itertools.count()

RUNS = int(os.environ.get("MRL_DB_PARTITIONED_RUNS", "2"))
COLUMNS = "id bigint NOT NULL, embedding vector(12), year integer, UNIQUE ({})"
TREES = {  # how the table is partitioned, and its partitions: of what, for which rows, how on
    "hash": (
        "HASH (id)",
        [
            ("", "WITH (MODULUS 3, REMAINDER 0)", ""),
            ("", "WITH (MODULUS 3, REMAINDER 1)", ""),
            ("", "WITH (MODULUS 3, REMAINDER 2)", "PARTITION BY RANGE (id)"),
            (" 2", "FROM (MINVALUE) TO (25)", ""),
            (" 2", "FROM (25) TO (MAXVALUE)", ""),
        ],
    ),
    "list": (
        "LIST (id)",
        [
            ("", f"IN ({', '.join(map(str, range(-20, 10)))})", ""),
            ("", f"IN ({', '.join(map(str, range(10, 30)))})", "PARTITION BY HASH (id)"),
            (" 1", "WITH (MODULUS 1, REMAINDER 0)", ""),
            ("", "DEFAULT", ""),
        ],
    ),
    "list of another column": (
        "LIST (year)",
        [("", "IN (0)", ""), ("", "IN (1, 2)", ""), ("", "DEFAULT", "")],
    ),
}
FIRST_OF_OWN = 5_000  # keys of partitions that are attached later


class PartitionedLife(Life):
    """Adds what others do to single partitions."""

    tree = "hash"

    @initialize(
        metric=st.sampled_from(list(METRICS)),
        low_dim=st.sampled_from(["index", "column"]),
        way=ways,
        number=which,
    )
    def begin(self, metric, low_dim, way, number):
        self.metric, self.kind, self.rows, self.later = metric, "partitioned", {}, 0
        self.name = f"leaves {next(_names)}"
        self.place, self.database, self.dumps = (self.name,), self.dsn, 0
        self.connect()
        by, partitions = TREES[self.tree]
        columns = COLUMNS.format("id, year" if self.by_year else "id")
        self.sql(f"CREATE TABLE {{table}} ({columns}) PARTITION BY {by}")
        self.leaves = []
        for i, (above, values, further) in enumerate(partitions):
            bounds = values if values == "DEFAULT" else f"FOR VALUES {values}"
            self.sql(
                f"CREATE TABLE {{leaf}} PARTITION OF {{above}} {bounds} {further}",
                leaf=self.leaf(i),
                above=sql.Identifier(self.name + above),
            )
            if not further:
                self.leaves.append((i, above, bounds))
        self.sql(
            "INSERT INTO {table} SELECT i, %s::vector, i %% 3 FROM generate_series(0, 29) AS i",
            [text(VECTORS[number])],
        )
        self.rows = {i: (number, i % 3) for i in range(30)}
        self.db.attach(f'"{self.name}"', metric=metric, low_dim=low_dim, key_unique=self.by_year)
        self.docs = self.db.open(self.name)
        self.docs.load(**way)

    @property
    def by_year(self):
        """Whether no index makes the key unique, and an UPDATE of the year moves rows."""
        return "another" in self.tree

    @rule(key=st.integers(-20, 60), number=which, year=years)
    def others_upsert(self, key, number, year):
        if not self.by_year:
            Life.others_upsert(self, key=key, number=number, year=year)
            return
        done = self.sql(
            "UPDATE {table} SET embedding = %s::vector, year = %s WHERE id = %s",
            [text(VECTORS[number]), year, key],
        )
        if done.rowcount == 0:
            self.sql(
                "INSERT INTO {table} (id, embedding, year) VALUES (%s, %s::vector, %s)",
                [key, text(VECTORS[number]), year],
            )
        self.rows[key] = (number, year)

    @rule(number=which)
    def abort(self, number):
        """A partition that is new gets its triggers first: nobody can make them beside a writer."""
        self.compare(number, None)
        Life.abort(self, number=number)

    def leaf(self, number):
        return sql.Identifier(f"{self.name} {number}")

    def above(self, above):
        """The table may be elsewhere by now, its partitions are where they were."""
        return sql.Identifier(self.name + above) if above else self.table

    def keys_of(self, leaf):
        return {row[0] for row in self.sql("SELECT id FROM {leaf}", leaf=leaf).fetchall()}

    @rule(data=st.data(), number=which, seen=st.booleans())
    def others_write_to_a_partition(self, data, number, seen):
        leaf = self.leaf(data.draw(st.sampled_from(self.leaves))[0])
        inside = sorted(self.keys_of(leaf))
        if not inside:
            return
        key = data.draw(st.sampled_from(inside))
        self.sql("DELETE FROM {leaf} WHERE id = %s", [key], leaf=leaf)
        year = self.rows.pop(key)[1]
        if seen:
            self.compare(number, None)
        self.sql(
            "INSERT INTO {leaf} (id, embedding, year) VALUES (%s, %s::vector, %s)",
            [key, text(VECTORS[number]), year],
            leaf=leaf,
        )
        self.rows[key] = (number, year)
        self.sql(
            "UPDATE {leaf} SET embedding = %s::vector WHERE id >= %s",
            [text(VECTORS[number]), key],
            leaf=leaf,
        )
        changed = {k: (number, self.rows[k][1]) for k in self.keys_of(leaf) if k >= key}
        self.rows.update(changed)

    @rule(data=st.data(), how=st.sampled_from(["TRUNCATE", "VACUUM FULL"]))
    def others_truncate_or_rewrite_a_partition(self, data, how):
        leaf = self.leaf(data.draw(st.sampled_from(self.leaves))[0])
        gone = self.keys_of(leaf) if how == "TRUNCATE" else ()
        self.sql(f"{how} {{leaf}}", leaf=leaf)
        self.forget(lambda key, _: key in gone)

    @rule(data=st.data(), number=which, seen=st.booleans(), seen_later=st.booleans())
    def others_detach_a_partition_write_to_it_and_attach_it(self, data, number, seen, seen_later):
        i, above, bounds = data.draw(st.sampled_from(self.leaves))
        leaf, aside = self.leaf(i), self.rows
        inside = self.keys_of(leaf)
        self.sql("ALTER TABLE {above} DETACH PARTITION {leaf}", above=self.above(above), leaf=leaf)
        self.forget(lambda key, _: key in inside)
        if seen:
            self.compare(number, None)
        kept = {key for key in inside if key % 2}
        self.sql("DELETE FROM {leaf} WHERE id %% 2 = 0", leaf=leaf)
        self.sql("UPDATE {leaf} SET embedding = %s::vector", [text(VECTORS[number])], leaf=leaf)
        if seen_later:
            self.compare(number, None)
        self.sql(
            f"ALTER TABLE {{above}} ATTACH PARTITION {{leaf}} {bounds}",
            above=self.above(above),
            leaf=leaf,
        )
        self.rows = self.rows | {key: (number, aside[key][1]) for key in kept}

    @rule(data=st.data(), number=which, seen=st.booleans())
    def others_drop_a_partition_and_make_another(self, data, number, seen):
        i, above, bounds = data.draw(st.sampled_from(self.leaves))
        aside, inside = self.rows, self.keys_of(self.leaf(i))
        self.sql("DROP TABLE {leaf}", leaf=self.leaf(i))
        self.forget(lambda key, _: key in inside)
        if seen:
            self.compare(number, None)
        self.sql(
            f"CREATE TABLE {{leaf}} PARTITION OF {{above}} {bounds}",
            above=self.above(above),
            leaf=self.leaf(i),
        )
        for key in sorted(inside)[:3]:  # straight into what no trigger may be on yet
            year = aside[key][1]
            self.sql(
                "INSERT INTO {leaf} (id, embedding, year) VALUES (%s, %s::vector, %s)",
                [key, text(VECTORS[number]), year],
                leaf=self.leaf(i),
            )
            self.rows[key] = (number, year)

    @rule(number=which, rows=st.integers(0, 5))
    def others_attach_a_partition_with_rows(self, number, rows):
        if self.tree == "hash" or self.later == 3:
            return
        self.later += 1
        first = FIRST_OF_OWN + 10 * self.later
        leaf = self.leaf(f"later {self.later}")
        self.sql("CREATE TABLE {leaf} (LIKE {table} INCLUDING ALL)", leaf=leaf)
        year = 100 + self.later if self.by_year else None
        self.sql(
            "INSERT INTO {leaf} (id, embedding, year) SELECT i, %s::vector, %s "
            "FROM generate_series(%s::int, %s::int) AS i",
            [text(VECTORS[number]), year, first, first + rows - 1],
            leaf=leaf,
        )
        values = [year] if self.by_year else range(first, first + 10)
        bounds = f"FOR VALUES IN ({', '.join(map(str, values))})"
        self.sql(f"ALTER TABLE {{table}} ATTACH PARTITION {{leaf}} {bounds}", leaf=leaf)
        self.leaves.append((f"later {self.later}", "", bounds))
        self.rows.update({first + i: (number, year) for i in range(rows)})

    @rule(kind=st.sampled_from(["hnsw", "mrl"]), concurrently=st.booleans())
    def index(self, kind, concurrently):
        self.docs.create_index(kind=kind, concurrently=concurrently)


@pytest.mark.parametrize("tree", TREES)
def test_a_partitioned_collection_lives_as_its_model_does(life, tree):
    machine = type(
        "PartitionedLife",
        (PartitionedLife,),
        {n: vars(life)[n] for n in ("dsn", "server", "as_superuser")} | {"tree": tree},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        ),
    )
