"""Large files: added, fetched from a node, served to one client and to many."""

import os
import re
import shutil
import subprocess
import time

from .report import Found, Table, spread
from .tools import (GIB, HOSTS, RUNS, SENDME_VERSION, SIZE, Node, Process, fresh, install_sendme, median, nginx, random_file, say,
                    sync, timed, wait_for_peer)


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


def case_fetch(hubless, sendme, work, model):
    """One verified fetch from node to node against curl from nginx and against sendme, over the same veth pair."""
    a, b = HOSTS
    wall = {"hubless pull": [], "curl from nginx": [], "sendme": []}
    cpu = {name: [] for name in wall}
    peaks = {"seeding node": 0.0, "fetching node": 0.0}
    with Node(hubless, fresh(work / "seed"), a) as seed, nginx(work, model.parent, 8081, a) as web:
        seed.ask("add", model.parent, "bench/model")
        for turn in range(RUNS + 1):
            sync()
            with Node(hubless, fresh(work / "leech"), b, "--bootstrap", seed.hello["bootstrap"]) as leech:
                wait_for_peer(leech)
                before = seed.cpu() + leech.cpu()
                took, client = leech.ask("pull", "bench/model", "--accept-from", seed.hello["node"])
                spent = seed.cpu() + leech.cpu() - before + client
                peaks["fetching node"] = max(peaks["fetching node"], leech.peak_mib())
            peaks["seeding node"] = max(peaks["seeding node"], seed.peak_mib())
            shutil.rmtree(work / "leech")
            sync()
            before = web.cpu()
            theirs, client = timed(["curl", "-sSf", "-o", work / "out", f"http://{HOSTS[a]}:8081/{model.name}"], b)
            theirs_spent = web.cpu() - before + client
            (work / "out").unlink()
            sync()
            third = sendme_once(sendme, work, model) if sendme else None
            if turn:
                wall["hubless pull"].append(took)
                cpu["hubless pull"].append(spent)
                wall["curl from nginx"].append(theirs)
                cpu["curl from nginx"].append(theirs_spent)
                if third:
                    wall["sendme"].append(third[0])
                    cpu["sendme"].append(third[1])
    return wall, cpu, peaks


def sendme_once(sendme, work, model):
    a, b = HOSTS
    home = fresh(work / "sendme")
    home.mkdir()
    environment = {**os.environ, "RUST_LOG": "error"}
    command = [sendme, "send", "--relay", "disabled", "--ticket-type", "addresses", "--no-progress",
               "--magic-ipv4-addr", f"{HOSTS[a]}:9777", model]
    with Process(command, a, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                 text=True, env=environment) as sender:
        ticket = None
        for line in sender.child.stdout:
            found = re.search(r"sendme receive (\S+)", line)
            if found:
                ticket = found[1]
                break
        if not ticket:
            say("sendme gave no ticket; left out")
            return None
        into = home / "into"
        into.mkdir()
        before = sender.cpu()
        took, client = timed([sendme, "receive", "--relay", "disabled", "--no-progress", ticket], b, cwd=into,
                             env=environment, stderr=subprocess.DEVNULL)
        spent = sender.cpu() - before + client
    shutil.rmtree(home)
    return took, spent


CLIENTS = (1, 4, 16)


def case_serve(hubless, work, model):
    """Serving a held file over HTTP against nginx, to one client and to several at once."""
    a = next(iter(HOSTS))
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
    sendme = install_sendme()
    model = work / "model" / "model.safetensors"
    model.parent.mkdir()
    say(f"making a file of {SIZE / GIB:g} GiB")
    random_file(model, SIZE)
    sync()
    found = Found()
    say("adding by reference")
    tell_add(found, case_add(hubless, work, model))
    say("fetching")
    tell_fetch(found, *case_fetch(hubless, sendme, work, model))
    say("serving")
    tell_serve(found, *case_serve(hubless, work, model))
    return found


def tell_add(found, add):
    slower = max(median(add["b3sum"]), median(add["openssl sha256"]))
    case = "adding a file by reference, against the slower of b3sum and openssl sha256"
    found.at_most(case, median(add["hubless add"]) / slower, 1.3)
    rows = [[name, spread(values)] for name, values in add.items()]
    found.tables.append(Table(f"Adding {SIZE / GIB:g} GiB by reference", ["", "seconds"], rows))


def tell_fetch(found, wall, cpu, peaks):
    ours = median(wall["hubless pull"])
    found.at_most("one verified fetch, against curl from nginx", ours / median(wall["curl from nginx"]), 1.2)
    if wall["sendme"]:
        found.below(f"the same, against sendme {SENDME_VERSION}", ours / median(wall["sendme"]), 1)
    for name, peak in peaks.items():
        found.at_most(f"largest resident size, {name}", peak, 200, " MiB", 0)
    rows = [[name, spread(values), f"{median(cpu[name]) / (SIZE / GIB):.2f}"] for name, values in wall.items() if values]
    header = ["", "seconds", "CPU seconds a GiB, both sides"]
    found.tables.append(Table(f"One fetch of {SIZE / GIB:g} GiB over a veth pair", header, rows))


def tell_serve(found, rates, peak):
    for clients in CLIENTS:
        for name in ("hubless, its own file", "hubless, a referenced file"):
            many = "one client" if clients == 1 else f"{clients} clients at once"
            case = f"serving over HTTP to {many} ({name.partition(', ')[2]}), against nginx"
            found.at_least(case, median(rates[name, clients]) / median(rates["nginx", clients]), 0.8)
    found.at_most("largest resident size, serving node", peak, 200, " MiB", 0)
    rows = [[name, str(clients), spread(values, 0)] for (name, clients), values in rates.items()]
    found.tables.append(Table("Serving over HTTP", ["", "clients", "MB/s"], rows))
