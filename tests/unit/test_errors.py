"""The errors: public, caught as a caller would expect, and one for each SQLSTATE of ours."""

import re

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
