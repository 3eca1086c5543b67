"""libtorrent's peers on the hosts of a case; what one of them does is in `torrent.py`."""

import contextlib
import json
import select
import subprocess
import time
from pathlib import Path

from ..tools import Process, fresh, run
from .runs import empty

# Debian's own, for which Debian packages the binding; any other Python would not find it.
PYTHON = "/usr/bin/python3"
PEER = Path(__file__).with_name("torrent.py")


class Peer(Process):
    """A peer that holds the torrent and knows nobody yet."""

    def __init__(self, host, torrent, folder, seed=False, super_seeding=False):
        super().__init__([PYTHON, PEER, "peer", host.address], host, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.host = host
        self.tell({"torrent": str(torrent), "folder": str(folder), "seed": seed, "super": super_seeding})
        self.port = json.loads(self.child.stdout.readline())["port"]

    def tell(self, what):
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()


def make(work, folder, name):
    """The torrent of `folder/name`, a file or a folder."""
    torrent = work / f"{name}.torrent"
    run(PYTHON, PEER, "make", folder, name, torrent)
    return torrent


def fetch(work, torrent, folder, seed_hosts, leech_hosts, limit, meter, super_seeding=False):
    """All leechers fetch at once from the seeds and from each other; what `meter` makes of it, given the peers and, by its answer,
    the seconds that each leecher took."""
    with contextlib.ExitStack() as stack:
        seeds = [stack.enter_context(Peer(host, torrent, folder, seed=True, super_seeding=super_seeding)) for host in seed_hosts]
        leeches = [stack.enter_context(Peer(host, torrent, empty(fresh(work / f"leech-{n}")))) for n, host in enumerate(leech_hosts)]
        measured = meter([*seeds, *leeches])
        began = time.monotonic()
        # Each pair is connected once: a seed by all, and of two leechers the later one by the earlier.
        for n, leech in enumerate(leeches):
            others = [*seeds, *leeches[n + 1:]]
            leech.tell({"peers": [[other.host.address, other.port] for other in others]})
        took = []
        for leech in leeches:
            ready = select.select([leech.child.stdout], [], [], max(0.0, limit - (time.monotonic() - began)))[0]
            took.append(json.loads(leech.child.stdout.readline())["seconds"] if ready else None)
        return measured(took)
