"""A node that holds ten thousand keys and is asked for nothing."""

import contextlib
import json
import re
import time
from pathlib import Path

from ..hosts import Net
from ..report import Found, Table
from ..tools import Node, fresh, say, wait_for_peer

# Every added repository is two keys: its commit's and its name's.
REPOS = 5000
NEIGHBOURS = 4
# The longest wait for all keys to be announced, and how long the idle node is watched afterwards; seconds.
ANNOUNCE_LIMIT, WATCHED = 300, 60


def measure(hubless, work):
    with Net() as net, contextlib.ExitStack() as stack:
        nodes = []
        for name in (*(f"neighbour{n}" for n in range(NEIGHBOURS)), "idle"):
            bootstrap = ["--bootstrap", nodes[0].hello["bootstrap"]] if nodes else []
            nodes.append(stack.enter_context(Node(hubless, fresh(work / name), net.host(name), *bootstrap)))
        node = nodes[-1]
        wait_for_peer(node)
        fill(work, node)
        waited = wait_announced(node)
        filled = resident_mib(node)
        watched = watch(node)
        return tell(waited, filled, watched, json.loads(node.said("status", "--json")))


def fill(work, node):
    say(f"adding {REPOS} repositories")
    for n in range(REPOS):
        path = work / "small" / f"{n}" / "config.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"number": n}))
        node.ask("add", path.parent, f"bench/idle-{n}")


def wait_announced(node):
    """Seconds until nothing was due any more."""
    began = time.monotonic()
    while (due := json.loads(node.said("status", "--json"))["announce"]["due"]) and time.monotonic() - began < ANNOUNCE_LIMIT:
        time.sleep(2)
    say(f"{due} keys were still due after {time.monotonic() - began:.0f} s")
    return time.monotonic() - began


def resident_mib(node):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{node.pid}/status").read_text())[1]) / 1024


def watch(node):
    """What the idle node does: kB a second in and out, largest resident MiB, and share of a core."""
    bytes_before, cpu_before, peak = node.host.sent() + node.host.received(), node.cpu(), 0.0
    for _ in range(WATCHED):
        time.sleep(1)
        peak = max(peak, resident_mib(node))
    moved = node.host.sent() + node.host.received() - bytes_before
    return {"rate": moved / WATCHED / 1000, "resident": peak, "cpu": (node.cpu() - cpu_before) / WATCHED}


def tell(waited, filled, watched, status):
    found = Found()
    keys = status["announce"]["keys"]
    found.at_most(f"idle with {keys:,} keys held: resident memory", watched["resident"], 64, " MiB", 0)
    found.at_most("the same, in and out", watched["rate"], 5, " kB/s", 1)
    rows = [["keys", f"{keys:,}"], ["keys still due", f"{status['announce']['due']:,}"], ["seconds until all were announced", f"{waited:.0f}"],
            ["resident right after, MiB", f"{filled:.0f}"], [f"resident over {WATCHED} s, largest, MiB", f"{watched['resident']:.0f}"],
            ["in and out, kB/s", f"{watched['rate']:.2f}"], ["share of one core", f"{watched['cpu'] * 100:.2f} %"]]
    found.tables.append(Table(f"An idle node among {NEIGHBOURS} others", ["", ""], rows))
    return found
