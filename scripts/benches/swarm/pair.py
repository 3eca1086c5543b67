"""2 GiB from one host to another over a line that nothing holds back, beside the programs that people use for it."""

import os
import re
import shutil
import subprocess

from ..hosts import Net
from ..report import Found
from ..tools import (GIB, SENDME_VERSION, SIZE, Node, Process, fresh, install_debian, install_sendme, nginx, random_file, say, sync,
                     timed, wait_for_peer)
from . import torrents
from .runs import Meter, at_most, chart, empty, in_turn, pull, table, together, wall

# The longest that one fetch may take, in seconds.
LIMIT = 120


def measure(hubless, work):
    install_debian("python3-libtorrent")
    sendme = install_sendme()
    model = work / "model" / "model.safetensors"
    say(f"making a file of {SIZE / GIB:g} GiB")
    random_file(model, SIZE)
    with Net() as net:
        a, b = net.host("a"), net.host("b")
        torrent = torrents.make(work, model.parent, model.name)
        with Node(hubless, work / "seed", a) as seed, nginx(work, model.parent, 8081, a) as web:
            seed.ask("add", model.parent, "bench/model")
            url = f"http://{a.address}:8081/{model.name}"
            aria2 = ["aria2c", "-q", "-x4", "-s4", "--file-allocation=none", "--allow-overwrite=true", "-d", work, "-o", "out", url]
            peaks = {}
            contenders = {
                "hubless": lambda: ours(work, seed, a, b, peaks),
                "nginx and curl": lambda: by_http(work, web, a, b, ["curl", "-sSf", "-o", work / "out", url]),
                "nginx and aria2": lambda: by_http(work, web, a, b, aria2),
                "libtorrent": lambda: by_torrent(work, torrent, model, a, b),
                "sendme": lambda: by_sendme(work, sendme, model, a, b),
            }
            runs = in_turn(contenders, warm_up=True)
    return tell(runs, peaks)


def ours(work, seed, a, b, peaks):
    with Node(seed.hubless, fresh(work / "leech"), b, "--bootstrap", seed.hello["bootstrap"]) as leech:
        wait_for_peer(leech)
        meter = Meter([seed, leech], a)
        took = together([pull(leech, "bench/model", seed)], LIMIT)[0]
        for name, node in (("seeding node", seed), ("fetching node", leech)):
            peaks[name] = max(peaks.get(name, 0), node.peak_mib())
        return meter.run(took or LIMIT, SIZE, SIZE, bool(took))


def by_http(work, web, a, b, command):
    (work / "out").unlink(missing_ok=True)
    sync()
    meter = Meter([web], a)
    return meter.run(timed(command, b, timeout=LIMIT)[0], SIZE, SIZE)


def by_torrent(work, torrent, model, a, b):
    def measured(peers):
        meter = Meter(peers, a)
        return lambda took: meter.run(took[0] or LIMIT, SIZE, SIZE, bool(took[0]))

    return torrents.fetch(work, torrent, model.parent, [a], [b], LIMIT, measured)


def by_sendme(work, sendme, model, a, b):
    home = empty(fresh(work / "sendme"))
    options = {"cwd": home, "env": {**os.environ, "RUST_LOG": "error"}, "stderr": subprocess.DEVNULL}
    command = [sendme, "send", "--relay", "disabled", "--ticket-type", "addresses", "--no-progress",
               "--magic-ipv4-addr", f"{a.address}:9777", model]
    with Process(command, a, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options) as sender:
        ticket = next((found[1] for line in sender.child.stdout if (found := re.search(r"sendme receive (\S+)", line))), None)
        if not ticket:
            raise SystemExit("bench: sendme gave no ticket")
        meter = Meter([sender], a)
        took = timed([sendme, "receive", "--relay", "disabled", "--no-progress", ticket], b, timeout=LIMIT, **options)[0]
        run = meter.run(took, SIZE, SIZE)
    shutil.rmtree(home)
    return run


def tell(runs, peaks):
    found = Found()
    title = f"{SIZE / GIB:g} GiB from one host to one other, the line unshaped"
    goal = None
    if "hubless" in runs:
        for other, factor in (("libtorrent", 1), ("nginx and curl", 1.2)):
            if other in runs:
                ratio = wall(runs["hubless"]) / wall(runs[other])
                at_most(found, f"{SIZE / GIB:g} GiB 1 to 1, against {other}", ratio, factor, runs["hubless"] + runs[other])
                goal = min(goal or LIMIT, factor * wall(runs[other]))
        if "sendme" in runs:
            found.below(f"the same, against sendme {SENDME_VERSION}", wall(runs["hubless"]) / wall(runs["sendme"]), 1)
        for name, peak in peaks.items():
            found.at_most(f"largest resident size, {name}", peak, 200, " MiB", 0)
    found.tables.append(table(title, runs))
    found.charts.append(chart("pair", title, runs, goal))
    return found
