"""What no machine here has hosts for: a thousand leechers in the fetch plan's simulator, and a mesh of DHT nodes in one process.

Both are examples of their crates that print a line of JSON a case; what else a line says becomes a row of the table.
"""

import json
from dataclasses import dataclass

from ..report import Found, Table
from ..tools import build, output, say


@dataclass
class Example:
    """An example of a crate, the Cargo features it wants, and the longest that it may take in seconds."""

    name: str
    crate: str
    title: str
    limit: int
    features: str = ""


@dataclass
class Asked:
    """A goal: the beginning of a case's name, the key of its line that must be at most `limit`, and what that is called."""

    case: str
    key: str
    limit: float
    unit: str
    what: str


PLAN = Example("swarm", "plan", "The fetch plan in virtual time; times are shares of the fluid bound", 5400, "sim")
MESH = Example("mesh", "discovery", "A mesh of DHT nodes in one process", 1200)
ASKED = [
    Asked("1,000 leechers", "last", 1.2, "", "simulator: 1 seed, 1,000 leechers, 10 GB in 72 shards, equal uplinks: last finisher against the fluid bound"),
    Asked("announce 100000 shards, 128 DHT nodes: walks", "value", 2, "", "announce 100,000 shards in a mesh of 128 DHT nodes: walks for each part of the key space"),
    Asked("announce 100000 shards, 128 DHT nodes: shards", "value", 0, "", "announce 100,000 shards in a mesh of 128 DHT nodes: shards nobody was told of"),
    Asked("announce 100000 shards, 128 DHT nodes, time", "value", 900, " s", "announce 100,000 shards in a mesh of 128 DHT nodes"),
    Asked("find a provider, 128 DHT nodes, 30 % dead: p50", "value", 3, "", "find a provider, 128 DHT nodes, 30 % dead: p50 in round trips"),
    Asked("find a provider, 128 DHT nodes, 30 % dead: p95", "value", 2, " s", "find a provider, 128 DHT nodes, 30 % dead: p95"),
]


def measure_plan(_hubless, _work):
    return measure(PLAN)


def measure_mesh(_hubless, _work):
    return measure(MESH)


def measure(example):
    features = ["--features", example.features] if example.features else []
    program = build(f"examples/{example.name}", "-p", f"hubless-{example.crate}", *features, "--example", example.name)
    say(f"running {example.name}")
    lines = output("timeout", example.limit, program).splitlines()
    found = Found()
    tell(found, example.title, [json.loads(line) for line in lines if line.startswith("{")])
    return found


def tell(found, title, lines):
    for line in lines:
        for asked in ASKED:
            if line["case"].startswith(asked.case) and asked.key in line:
                found.at_most(asked.what, line[asked.key], asked.limit, asked.unit)
    # What says a goal is no row; a hash of the events is for comparing runs, not for reading. Lines that say the same make a table.
    groups = {}
    for line in lines:
        if "limit" not in line:
            groups.setdefault(tuple(key for key in line if key not in ("case", "trace")), []).append(line)
    for keys, group in groups.items():
        what = title if len(groups) == 1 else f"{title}: {group[0]['case'].partition(',')[0]}"
        rows = [[line["case"], *(shown(line[key]) for key in keys)] for line in group]
        found.tables.append(Table(what, ["", *(key.replace("_", " ") for key in keys)], rows))


def shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
