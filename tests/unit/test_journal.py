"""The journal of what an index took: nothing is left out, whatever was forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from mrl_db.engines.native import journal
from mrl_db.engines.native.journal import Journal

writes = st.lists(st.none() | st.lists(st.integers(0, 50), max_size=12), max_size=30)


@given(written=writes, held=st.integers(0, 40), most=st.integers(0, 30))
def test_all_that_was_written_or_that_any_row_may_have_been(written, held, most):
    book, kept = Journal(), journal._MOST
    journal._MOST = held
    try:
        for keys in written:
            if keys is None:
                book.note_all()
            else:
                book.note(keys)
    finally:
        journal._MOST = kept

    assert book.number == len(written)
    assert sum(map(len, book._entries.values())) <= held
    for first in range(len(written) + 1):
        for end in range(first, len(written) + 1):
            part = written[first:end]
            found = book.between(first, end, most)
            if found is not None:
                assert found == {key for keys in part for key in keys}
            elif held == 40 and None not in written:  # nothing else than its limits hides an entry
                assert (
                    len({key for keys in part for key in keys}) > most
                    or max(map(len, part)) > most
                    or sum(map(len, written)) > held
                )
