"""Four hosts have the same files, and one of them is nearly cut off."""

import contextlib

from ..hosts import Net
from ..report import Found
from ..tools import Node, fresh, install_debian, random_file, wait_for_peer
from . import torrents
from .runs import MIB, Meter, at_most, chart, in_turn, pull, table, together, wall

SIZE = 256 * MIB
# Bits a second that a good provider, the slow one, and the fetching host's line carry.
GOOD, SLOW, LINE = 100e6, 8e3, 1e9
# The longest that one run may take, in seconds.
LIMIT = 90
THREE, FOUR = "hubless, 3 good providers", "hubless, the same and one at 1 kB/s"


def measure(hubless, work):
    install_debian("python3-libtorrent")
    random_file(work / "files" / "model.safetensors", SIZE)
    torrent = torrents.make(work, work / "files", "model.safetensors")
    contenders = {
        THREE: lambda: once(hubless, work, 0),
        FOUR: lambda: once(hubless, work, 1),
        THREE.replace("hubless", "libtorrent"): lambda: theirs(work, torrent, 0),
        FOUR.replace("hubless", "libtorrent"): lambda: theirs(work, torrent, 1),
    }
    return tell(in_turn(contenders))


def once(hubless, work, slow):
    with Net() as net, contextlib.ExitStack() as stack:
        providers, publisher = providers_of(stack, net, hubless, work, 3 + slow)
        for n, provider in enumerate(providers):
            provider.host.shape(up=SLOW if n == 3 else GOOD)
        host = net.host("fetching", down=LINE)
        bootstraps = [part for provider in providers for part in ("--bootstrap", provider.hello["bootstrap"])]
        node = stack.enter_context(Node(hubless, fresh(work / "fetching"), host, *bootstraps))
        wait_for_peer(node)
        meter = Meter([*providers, node], *(provider.host for provider in providers))
        took = together([pull(node, "bench/files", publisher)], LIMIT)[0]
        return meter.run(took or LIMIT, SIZE, SIZE, bool(took))


def theirs(work, torrent, slow):
    with Net() as net:
        hosts = [net.host(f"provider{n}", up=SLOW if n == 3 else GOOD) for n in range(3 + slow)]

        def measured(peers):
            meter = Meter(peers, *hosts)
            return lambda took: meter.run(took[0] or LIMIT, SIZE, SIZE, bool(took[0]))

        return torrents.fetch(work, torrent, work / "files", hosts, [net.host("fetching", down=LINE)], LIMIT, measured)


def providers_of(stack, net, hubless, work, count):
    """Nodes that all have the files, with the first of them, which published these; their lines are not shaped yet."""
    nodes = []
    for n in range(count):
        bootstrap = ["--bootstrap", nodes[0].hello["bootstrap"]] if nodes else []
        node = stack.enter_context(Node(hubless, fresh(work / f"provider-{n}"), net.host(f"provider{n}"), *bootstrap))
        if nodes:
            wait_for_peer(node)
            node.ask("pull", "bench/files", "--accept-from", nodes[0].hello["node"])
        else:
            node.ask("add", work / "files", "bench/files")
        nodes.append(node)
    return nodes, nodes[0]


def tell(runs):
    found = Found()
    title = f"{SIZE // MIB} MiB from providers at {GOOD / 1e6:.0f} Mbit/s each"
    if THREE in runs and FOUR in runs:
        case = "4 providers, one at 1 kB/s, against the 3 good ones alone"
        at_most(found, case, wall(runs[FOUR]) / wall(runs[THREE]), 1.1, runs[FOUR] + runs[THREE])
    found.tables.append(table(title, runs))
    found.charts.append(chart("providers", title, runs, 1.1 * wall(runs[THREE]) if THREE in runs else None))
    return found
