"""The errors: public, caught as a caller would expect, and one for each SQLSTATE of ours."""

import inspect
import pickle
import re
from pathlib import Path

import psycopg
import pytest

import mrl_db
from mrl_db.model import errors
from mrl_db.postgres import statements

OURS = {
    name: value
    for name, value in vars(errors).items()
    if isinstance(value, type) and value.__module__ == errors.__name__
}


def test_every_error_is_a_name_of_the_package():
    assert OURS.keys() <= set(mrl_db.__all__)


@pytest.mark.parametrize("name", sorted(OURS.keys() - {"MrlDbError"}))
def test_an_error_is_ours_and_one_of_python(name):
    others = [base for base in OURS[name].__mro__ if base not in OURS.values()]

    assert issubclass(OURS[name], mrl_db.MrlDbError | Warning)
    assert others[0] not in (Exception, object)


def test_the_functions_raise_sqlstates_that_have_an_error():
    texts = [path.read_text() for path in statements.sql_folder().rglob("*.sql")]
    raised = {state for text in texts for state in re.findall(r"'(MR\d+)'", text)}

    assert raised == errors._OF_SQLSTATE.keys()


def test_the_page_of_the_schema_has_each_sqlstate():
    page = Path(__file__).parents[2] / "docs" / "schema.md"

    assert set(re.findall(r"\bMR\d+", page.read_text())) == errors._OF_SQLSTATE.keys()


def every_kind():
    """The public ones, and those that modules keep to themselves."""
    found, new = set(OURS.values()), {mrl_db.MrlDbError}
    while new:
        new = {each for kind in new for each in kind.__subclasses__()}
        found |= new
    assert found > set(OURS.values())
    return sorted(found, key=lambda kind: kind.__qualname__)


@pytest.mark.parametrize("kind", every_kind())
def test_an_error_passes_from_process_to_process_whole(kind):
    """As concurrent.futures, Ray and Celery send it."""
    values = {"parts": (1, 2), "batch_id": "b", "servers": (0,), "gone": True}
    own = inspect.signature(kind).parameters if "__init__" in vars(kind) else ()
    error = kind("said", **{each: values[each] for each in own if each in values})

    arrived = pickle.loads(pickle.dumps(error))

    assert type(arrived) is kind
    assert str(arrived) == "said"
    assert vars(arrived) == vars(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg.ProgrammingError("cannot adapt type 'object' using placeholder '%s'"),
        psycopg.ProgrammingError('missing "=" after "secret" in connection info string'),
        psycopg.NotSupportedError("secret"),
        psycopg.InternalError(),
    ],
    ids=repr,
)
def test_an_error_of_psycopgs_own_has_words_and_no_connection_string(error):
    ours = errors.from_psycopg(error)

    adapting = str(error).startswith("cannot adapt")
    assert type(ours) is (errors.DtypeError if adapting else errors.DatabaseError)
    assert (str(error) if adapting else type(error).__name__) in str(ours)
    assert "secret" not in str(ours)
