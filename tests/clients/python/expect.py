"""What the programs of the client matrix share. Each is called with the folder that the repositories were made of."""

import os
import pathlib
import sys

FIXTURE = pathlib.Path(sys.argv[1])
TINY = "acme/tiny"


def files(repo):
    """The files of a repository, by path."""
    root = FIXTURE / repo
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def same(repo, folder):
    """Fails unless `folder` holds just what `repo` holds; what clients keep for themselves does not count."""
    folder = pathlib.Path(folder)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found = {path: data for path, data in found.items() if not path.startswith(".cache")}
    expected = files(repo)
    assert found.keys() == expected.keys(), (sorted(found), sorted(expected))
    for path, data in expected.items():
        assert found[path] == data, f"{path} differs"


def done():
    print("ok", flush=True)
    # Threads that libraries leave behind abort the interpreter now and then while it shuts down.
    os._exit(0)
