"""Large files: added, and served to one client and to many. Fetching them is the swarm's (`swarm/pair.py`)."""

import shutil
import time

from .hosts import Net
from .report import Found, Table, spread
from .tools import GIB, RUNS, SIZE, Node, Process, fresh, median, nginx, random_file, say, sync, timed, wait_for_peer


def case_add(hubless, work, model):
    """Adding by reference against the slower of b3sum and openssl on the same cached file."""
    ours, b3, sha = [], [], []
    for turn in range(RUNS + 1):
        data = work / f"add-{turn}"
        name = f"bench/add{turn}"
        wall = timed([hubless, "--data", data, "add", model.parent, name])[0]
        theirs = (timed(["b3sum", model])[0], timed(["openssl", "dgst", "-sha256", model])[0])
        shutil.rmtree(data)
        if turn:  # the first run warms the cache
            ours.append(wall)
            b3.append(theirs[0])
            sha.append(theirs[1])
    return {"hubless add": ours, "b3sum": b3, "openssl sha256": sha}


CLIENTS = (1, 4, 16)


def case_serve(hubless, work, model, a):
    """Serving a held file over HTTP against nginx, to one client and to several at once."""
    rates = {}
    with Node(hubless, fresh(work / "serve"), a) as node, nginx(work, model.parent, 8082, a):
        node.ask("add", model.parent, "bench/model")
        owned = fresh(work / "owned")
        with Node(hubless, owned, a, "--bootstrap", node.hello["bootstrap"]) as second:
            wait_for_peer(second)
            second.ask("pull", "bench/model", "--accept-from", node.hello["node"])
            urls = {
                "hubless, its own file": f"{second.hello['http']}/bench/model/resolve/main/{model.name}",
                "hubless, a referenced file": f"{node.hello['http']}/bench/model/resolve/main/{model.name}",
                "nginx": f"http://127.0.0.1:8082/{model.name}",
            }
            for turn in range(RUNS + 1):
                for name, url in urls.items():
                    for clients in CLIENTS:
                        start = time.monotonic()
                        children = [Process(["curl", "-sSf", "-o", "/dev/null", url], a) for _ in range(clients)]
                        for child in children:
                            if child.child.wait():
                                raise SystemExit(f"bench: curl failed on {url}")
                        rate = clients * SIZE / (time.monotonic() - start) / 1e6
                        if turn:
                            rates.setdefault((name, clients), []).append(rate)
            peak = max(node.peak_mib(), second.peak_mib())
    return rates, peak


def measure(hubless, work):
    """All cases of this file."""
    model = work / "model" / "model.safetensors"
    model.parent.mkdir()
    say(f"making a file of {SIZE / GIB:g} GiB")
    random_file(model, SIZE)
    sync()
    found = Found()
    say("adding by reference")
    tell_add(found, case_add(hubless, work, model))
    say("serving")
    with Net() as net:
        tell_serve(found, *case_serve(hubless, work, model, net.host("a")))
    return found


def tell_add(found, add):
    slower = max(median(add["b3sum"]), median(add["openssl sha256"]))
    case = "adding a file by reference, against the slower of b3sum and openssl sha256"
    found.at_most(case, median(add["hubless add"]) / slower, 1.3)
    rows = [[name, spread(values)] for name, values in add.items()]
    found.tables.append(Table(f"Adding {SIZE / GIB:g} GiB by reference", ["", "seconds"], rows))


def tell_serve(found, rates, peak):
    for clients in CLIENTS:
        for name in ("hubless, its own file", "hubless, a referenced file"):
            many = "one client" if clients == 1 else f"{clients} clients at once"
            case = f"serving over HTTP to {many} ({name.partition(', ')[2]}), against nginx"
            found.at_least(case, median(rates[name, clients]) / median(rates["nginx", clients]), 0.8)
    found.at_most("largest resident size, serving node", peak, 200, " MiB", 0)
    rows = [[name, str(clients), spread(values, 0)] for (name, clients), values in rates.items()]
    found.tables.append(Table("Serving over HTTP", ["", "clients", "MB/s"], rows))
