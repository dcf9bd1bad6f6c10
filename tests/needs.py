"""Test files whose packages are not installed here are left out."""

from importlib.util import find_spec


def lacking(needs):
    """Returns the files, of a dict of a file and its packages, that cannot run."""
    return [name for name, packages in needs.items() if not all(map(find_spec, packages))]
