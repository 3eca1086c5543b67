"""An origin with little upload, and eight nodes that begin together: what one of them took from it, the others should not."""

import contextlib
import json

from ..hosts import Net
from ..report import Found
from ..tools import Node, fresh, random_file, say, wait_for_peer
from .runs import MIB, Meter, at_most, chart, copies, in_turn, table, together

SIZE = 128 * MIB
NODES = 8
# Bits a second of every host.
UP, DOWN = 50e6, 200e6
BOUND = SIZE * 8 / UP
# The longest that one run may take, in seconds.
LIMIT = 240


def measure(hubless, work):
    random_file(work / "files" / "model.safetensors", SIZE)
    runs = in_turn({"hubless": lambda: once(hubless, work)})
    found = Found()
    title = f"{SIZE // MIB} MiB from an origin at {UP / 1e6:.0f} Mbit/s up to {NODES} nodes that start together"
    if "hubless" in runs:
        at_most(found, f"webseed, {title}: copies that the origin sent", copies(runs["hubless"]), 1.05, runs["hubless"])
    found.tables.append(table(title, runs))
    found.charts.append(chart("webseed", title, runs, None, 1.05))
    return found


def once(hubless, work):
    """The origin is a node's door, which answers as a hub does; no other node meets it as a peer."""
    with Net() as net, contextlib.ExitStack() as stack:
        origin_host = net.host("origin", UP, DOWN)
        origin = stack.enter_context(Node(hubless, fresh(work / "origin"), origin_host, open_door=True))
        origin.ask("add", work / "files", "bench/web")
        nodes = []
        for n in range(NODES):
            bootstrap = ["--bootstrap", nodes[0].hello["bootstrap"]] if nodes else []
            host = net.host(f"node{n}", UP, DOWN)
            nodes.append(stack.enter_context(Node(hubless, fresh(work / f"node-{n}"), host, *bootstrap, origin=origin.hello["http"])))
            if n:
                wait_for_peer(nodes[-1])
        meter = Meter([origin, *nodes], origin_host)
        took = together([(node.host, [hubless, "--data", node.data, "pull", "bench/web"]) for node in nodes], LIMIT)
        done = None not in took
        bodies = [json.loads(node.said("limits", "--json"))["origin"]["passed"] / SIZE for node in nodes]
        say(f"bodies that nodes took from the origin: {sum(bodies):.3f} copies, " + " ".join(f"{body:.3f}" for body in bodies))
        queue = origin_host.queue()
        say(f"the origin's line: {queue['packets']} packets of {queue['bytes'] / queue['packets']:.0f} bytes, {queue['drops']} dropped")
        return meter.run(max(took) if done else LIMIT, NODES * SIZE, SIZE, done)
