"""The door: small files a second, the first byte from a neighbour, clients' loaders, and what an origin has."""

import json
import os
import re
import subprocess
import time
import urllib.parse

from .replay import Recorder, Replay
from .hosts import Net
from .report import Found, Table, spread
from .tools import (CACHE, GIB, RUNS, SIZE, Node, Process, fresh, install_python, median, output, random_file, run, say, sync,
                    timed, wait_for_peer)

OLAH = "olah==0.5.4"
# Connections of the load generators, and how long each measures.
CONNECTIONS = 16
SECONDS = 5
# Files that only a neighbour holds, each asked for once.
NEIGHBOURS_FILES = 12


def measure(hubless, work):
    """All cases of this file."""
    found = Found()
    say("small files")
    tell_small(found, *case_small(hubless, work))
    say("from_pretrained")
    tell_loading(found, case_loading(hubless, work))
    with Net() as net:
        a, b = net.host("a"), net.host("b")
        say("first byte from a neighbour")
        tell_first_byte(found, case_first_byte(hubless, work, a, b))
        say("pull-through")
        tell_pull_through(found, case_pull_through(hubless, work, a, b))
    return found


# --- small files --------------------------------------------------------------------------------------------------


def case_small(hubless, work):
    """HEAD and GET a second of a held file of 3,000 bytes, and of olah from its own cache."""
    random_file(work / "small" / "config.json", 3000)
    rates, peak = {}, 0
    with Node(hubless, fresh(work / "small-node")) as node:
        node.ask("add", work / "small", "bench/small")
        place = "bench/small/resolve/main/config.json"
        with olah(work, node.hello["http"]) as mirror:
            for turn in range(RUNS + 1):
                for name, base in (("hubless", node.hello["http"]), ("olah", mirror)):
                    for method in ("HEAD", "GET"):
                        rate = requests_a_second(method, f"{base}/{place}", SECONDS if name == "hubless" else 3)
                        if turn:
                            rates.setdefault((name, method), []).append(rate)
        peak = node.peak_mib()
    return rates, peak


class olah:
    """An olah whose upstream is `hub`, with the small file in its cache; gives its address."""

    def __init__(self, work, hub):
        self.netloc = "127.0.0.1:18091"
        upstream = urllib.parse.urlsplit(hub).netloc
        command = [install_python("olah", OLAH) / "olah-cli", "--host", "127.0.0.1", "--port", "18091", "--hf-scheme", "http",
                   "--mirror-scheme", "http", "--metadata-cache-ttl", "3600", "--repos-path", work / "olah", "--log-path", work / "olah-log"]
        for option, value in (("hf", upstream), ("hf-lfs", upstream), ("mirror", self.netloc), ("mirror-lfs", self.netloc)):
            command += [f"--{option}-netloc", value]
        self.process = Process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)

    def __enter__(self):
        url = f"http://{self.netloc}/bench/small/resolve/main/config.json"
        for _ in range(60):
            code = subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url],
                                  capture_output=True, text=True).stdout
            if code == "200":
                return f"http://{self.netloc}"
            time.sleep(0.5)
        raise SystemExit("bench: olah does not serve the file")

    def __exit__(self, *failure):
        self.process.__exit__(*failure)


def requests_a_second(method, url, seconds):
    """GETs by wrk. wrk waits for the body that a HEAD's Content-Length speaks of, so HEADs are by ab."""
    if method == "GET":
        said = output("wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url)
        refuse = re.search(r"Non-2xx|Socket errors", said)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    else:
        said = output("ab", "-q", "-i", "-k", "-c", CONNECTIONS, "-t", seconds, "-n", "10000000", url)
        refuse = re.search(r"Non-2xx|Failed requests:\s+[1-9]", said)
        rate = re.search(r"Requests per second:\s+([\d.]+)", said)
    if refuse:
        raise SystemExit(f"bench: {method} {url}: {said}")
    return float(rate[1])


def tell_small(found, rates, peak):
    for method, least in (("HEAD", 8000), ("GET", 5000)):
        ours = median(rates["hubless", method])
        found.at_least(f"{method} of a held small file, load generator on the same cores", ours, least, "/s", 0)
        found.at_least(f"the same, against {OLAH.replace('==', ' ')} serving it from its cache", ours / median(rates["olah", method]), 5)
    rows = [[name, method, spread(values, 0)] for (name, method), values in rates.items()]
    rows.append(["hubless, largest resident size", "", f"{peak:.0f} MiB"])
    found.tables.append(Table("Held small files", ["", "", "requests a second"], rows))


# --- a neighbour's files ------------------------------------------------------------------------------------------


def case_first_byte(hubless, work, a, b):
    """Milliseconds until curl has the first byte of files that only the other host holds. The first one includes finding the
    name and the manifest."""
    for n in range(NEIGHBOURS_FILES):
        random_file(work / "near" / f"{n}.bin", 16 << 20)
    with Node(hubless, fresh(work / "near-a"), a) as seed:
        seed.ask("add", work / "near", "bench/near")
        config = work / "near.toml"
        config.write_text(f'[names]\ntrusted = ["{seed.hello["node"]}"]\n')
        arguments = ["--config", config, "--bootstrap", seed.hello["bootstrap"]]
        with Node(hubless, fresh(work / "near-b"), b, *arguments) as node:
            wait_for_peer(node)
            urls = [f"{node.hello['http']}/bench/near/resolve/main/{n}.bin" for n in range(NEIGHBOURS_FILES)]
            return [first_byte(b, url) for url in urls]


def first_byte(host, url):
    said = output("ip", "netns", "exec", host, "curl", "-sSf", "-o", "/dev/null", "-w", "%{time_starttransfer}", url)
    return float(said) * 1000


def tell_first_byte(found, took):
    found.at_most("first byte of a file that only a neighbour holds, the first file of a repository", took[0], 300, " ms", 0)
    found.at_most("the same, further files (median)", median(took[1:]), 300, " ms", 0)
    rows = [["first file", f"{took[0]:.0f}"], ["further files", spread(took[1:], 0)]]
    found.tables.append(Table("First byte from a neighbour, 16 MiB files", ["", "milliseconds"], rows))


# --- loaders ------------------------------------------------------------------------------------------------------

LOAD = """
import json, os, sys, tempfile, time
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer
took = []
for turn in range(int(sys.argv[1])):
    with tempfile.TemporaryDirectory() as cache:
        start = time.monotonic()
        AutoConfig.from_pretrained("bench/model", cache_dir=cache)
        AutoTokenizer.from_pretrained("bench/model", cache_dir=cache)
        loaded = time.monotonic()
        snapshot_download("bench/model", cache_dir=cache)
        took.append((loaded - start, time.monotonic() - loaded))
print(json.dumps(took[1:]))
"""


def case_loading(hubless, work):
    """`from_pretrained` and `snapshot_download` with an empty cache against a node, and against a bare server that sends the
    very same answers from memory."""
    model = next(CACHE.glob("model-*"), None)
    python = CACHE / "venv" / "bin" / "python"
    if not model or not python.exists():
        say("there is no model or no Python environment; scripts/test makes both; left out")
        return None
    with Node(hubless, fresh(work / "load")) as node:
        node.ask("add", model, "bench/model")
        recorder = Recorder(node.hello["http"])
        load(python, work, recorder.url, 2)
        replay = Replay(recorder.stop())
        took = {"hubless": [], "bare server": []}
        # In turn, each in a process of its own.
        for _ in range(RUNS):
            for name, url in (("hubless", node.hello["http"]), ("bare server", replay.url)):
                took[name] += load(python, work, url, 3)
        replay.stop()
    return took


def load(python, work, url, turns):
    home = fresh(work / "hf-home")
    home.mkdir()
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                   "NO_PROXY": "127.0.0.1"}
    said = run(python, "-c", LOAD, turns, env=environment, capture_output=True, text=True).stdout
    return json.loads(said.strip().splitlines()[-1])


def tell_loading(found, took):
    if not took:
        return
    rows = []
    for n, what in enumerate(("from_pretrained (config and tokenizer)", "snapshot_download of the rest")):
        times = {name: [turn[n] for turn in turns] for name, turns in took.items()}
        ratio = median(times["hubless"]) / median(times["bare server"])
        found.at_most(f"{what}, all held, against a bare server of the same answers", ratio, 1.1)
        rows += [[what, name, spread(values, 3)] for name, values in times.items()]
    found.tables.append(Table("Loading with an empty cache", ["", "", "seconds"], rows))


# --- pull-through -------------------------------------------------------------------------------------------------


def case_pull_through(hubless, work, a, b):
    """A file that only the origin has: fetched into the store, and by curl through the door, against curl from the origin."""
    random_file(work / "upstream" / "model.safetensors", SIZE)
    took = {"hubless pull from the origin": [], "curl through the door": [], "curl from the origin": []}
    place = "bench/upstream/resolve/main/model.safetensors"
    with Node(hubless, fresh(work / "upstream-a"), a, open_door=True) as origin:
        origin.ask("add", work / "upstream", "bench/upstream")
        for turn in range(RUNS + 1):
            once = {}
            for name in took:
                sync()
                if name == "curl from the origin":
                    once[name] = timed(["curl", "-sSf", "-o", work / "out", f"{origin.hello['http']}/{place}"], b)[0]
                    (work / "out").unlink()
                    continue
                with Node(hubless, fresh(work / "through"), b, origin=origin.hello["http"]) as node:
                    if name == "curl through the door":
                        once[name] = patient_curl(b, f"{node.hello['http']}/{place}", work / "out")
                        (work / "out").unlink()
                    else:
                        once[name] = node.ask("pull", "bench/upstream")[0]
                fresh(work / "through")
            if turn:
                for name, seconds in once.items():
                    took[name].append(seconds)
    return took


def patient_curl(host, url, into):
    """curl as a client that asks again when it is told to."""
    return timed(["curl", "-sSf", "--retry", "100", "-o", into, url], host)[0]


def tell_pull_through(found, took):
    bare = median(took["curl from the origin"])
    found.at_most("cold pull-through from an origin into the store, against curl", median(took["hubless pull from the origin"]) / bare, 1.15)
    found.at_most("the same, by curl through the door", median(took["curl through the door"]) / bare, 1.15)
    rows = [[name, spread(values)] for name, values in took.items()]
    found.tables.append(Table(f"Cold pull-through of {SIZE / GIB:g} GiB", ["", "seconds"], rows))
