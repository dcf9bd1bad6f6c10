import pytest

from mrl_db.postgres.health import ExtensionHealth, pgvector_advice


@pytest.mark.parametrize(
    ("created", "available", "advice"),
    [
        (None, None, "mrl-db extension install"),
        (None, "0.1", "CREATE EXTENSION mrl_db"),
        ("0.1", None, "files are gone"),
        ("0.1", "0.2", "ALTER EXTENSION mrl_db UPDATE brings it to 0.2"),
    ],
)
def test_what_a_server_lacks_comes_with_the_way_out(created, available, advice):
    assert advice in ExtensionHealth(created, available, None).advice


def test_a_server_that_has_all_gets_no_advice():
    assert ExtensionHealth("0.1", "0.1", "for PostgreSQL 18").advice is None


def test_versions_of_pgvector_with_a_known_hole_are_named():
    assert "CVE-2026-3172" in pgvector_advice("0.8.0")
    assert "CVE-2026-3172" in pgvector_advice("0.8.1")
    assert pgvector_advice("0.8.2") is None
    assert pgvector_advice("0.9.0") is None
