"""Long lines: a round trip of 100 ms at a gigabit, and 200 ms with loss."""

import contextlib
import json
import subprocess
import time
from dataclasses import dataclass

from ..hosts import Net, Wire
from ..report import Found, Table
from ..tools import Node, Process, fresh, install_debian, median, nginx, output, random_file, say, wait_for_peer
from .providers import providers_of
from .runs import MIB, Meter, chart, in_turn, pull, table, together

# The longest that one run may take, in seconds.
LIMIT = 60
IPERF_SECONDS = 8


@dataclass
class Line:
    """A line of the fetching host, what is fetched over it from how many, and the share of it that must be reached."""

    what: str
    wire: Wire
    size: int
    providers: int
    goal: float


LINES = [
    Line("100 ms round trip at 1 Gbit/s, 1 provider", Wire(delay=0.05, rate=1e9), 2048 * MIB, 1, 0.9),
    Line("200 ms round trip and 1 % loss each way at 100 Mbit/s, 4 providers", Wire(delay=0.1, rate=100e6, loss=0.01), 256 * MIB, 4, 0.7),
]


def measure(hubless, work):
    install_debian("iperf3")
    found = Found()
    say("the lines alone")
    found.tables.append(Table("The long lines alone, by iperf3", ["", "Mbit/s", "lost"], [alone(line) for line in LINES]))
    for n, line in enumerate(LINES, 1):
        random_file(work / "files" / "model.safetensors", line.size)
        shares = []
        runs = in_turn({"hubless": lambda line=line, shares=shares: once(hubless, work, line, shares),
                        "nginx and curl, one host": lambda line=line: by_curl(work, line)})
        tell(found, f"far-{n}", line, runs, shares)
    return found


def alone(line):
    """What the line itself carries: by TCP where nothing is lost, else by UDP just below its rate."""
    with Net() as net:
        near, far = net.host("near"), net.host("far", wire=line.wire)
        by = ["-u", "-b", f"{line.wire.rate * 0.95:.0f}", "-l", "1200"] if line.wire.loss else ["-P", "4", "-O", "2"]
        with Process(["iperf3", "-s", "-1"], near, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
            # -R: towards the far host, as the files go.
            time.sleep(1)
            said = output("ip", "netns", "exec", far, "timeout", 60, "iperf3", "-R", "-J", "-t", IPERF_SECONDS, "-c", near.address, *by)
        end = json.loads(said)["end"]
        total = end["sum"] if line.wire.loss else end["sum_received"]
        rate = total["bits_per_second"] / 1e6 * (1 - total.get("lost_percent", 0) / 100)
        return [line.what.rpartition(", ")[0], f"{rate:.0f}", f"{total['lost_percent']:.2f} %" if line.wire.loss else ""]


def once(hubless, work, line, shares):
    """One fetch; adds to `shares` what it used of the line."""
    with Net() as net, contextlib.ExitStack() as stack:
        providers, publisher = providers_of(stack, net, hubless, work, line.providers)
        host = net.host("fetching", wire=line.wire)
        bootstraps = [part for provider in providers for part in ("--bootstrap", provider.hello["bootstrap"])]
        node = stack.enter_context(Node(hubless, fresh(work / "fetching"), host, *bootstraps))
        wait_for_peer(node)
        meter, before = Meter([*providers, node], *(provider.host for provider in providers)), host.received()
        took = together([pull(node, "bench/files", publisher)], LIMIT)[0]
        arrived = line.size if took else host.received() - before
        say(f"the line: {json.dumps(net.counted())}")
        shares.append(arrived * 8 / (took or LIMIT) / line.wire.rate)
        return meter.run(took or LIMIT, arrived, line.size, bool(took))


def by_curl(work, line):
    """The same from one host by a single TCP connection, as the kernel comes."""
    with Net() as net:
        near, far = net.host("near"), net.host("far", wire=line.wire)
        out = work / "out"
        with nginx(work, work / "files", 8081, near) as web:
            meter, before = Meter([web], near), far.received()
            took = together([(far, ["curl", "-sSf", "-o", out, f"http://{near.address}:8081/model.safetensors"])], LIMIT)[0]
            arrived = line.size if took else far.received() - before
            run = meter.run(took or LIMIT, arrived, line.size, bool(took))
        out.unlink(missing_ok=True)
        return run


def tell(found, name, line, runs, shares):
    if shares:
        found.at_least(f"{line.what}: share of the line", median(shares) * 100, line.goal * 100, " %", 0)
    title = f"{line.size // MIB} MiB over a long line: {line.what}"
    found.tables.append(table(title, runs))
    found.charts.append(chart(name, title, runs, line.size * 8 / line.wire.rate / line.goal))
