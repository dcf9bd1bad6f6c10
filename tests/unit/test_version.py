import re
from pathlib import Path

import pytest

import mrl_db


def test_the_version_has_one_home():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()

    assert mrl_db.__version__ == re.search(r'^version = "(.+)"$', project, re.MULTILINE).group(1)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mrl_db.nothing
