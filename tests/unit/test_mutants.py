"""The faults of `make mutants` are faults of today's lines."""

import mutants
import pytest


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.file)
def test_a_mutant_changes_a_line_that_is_there(mutant):
    assert mutant.before in (mutants.ROOT / mutant.file).read_text()
    assert mutant.before != mutant.after
