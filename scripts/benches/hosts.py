"""Hosts made from network namespaces: each with a line of its own to a switch that has a namespace of its own.

    with Net() as net:
        seed = net.host("seed", up=50e6, down=200e6)      # bits a second, either way
        far = net.host("far", wire=Wire(delay=0.05, loss=0.01, rate=100e6))

A line is a veth pair, its rates are held by `tc tbf`; a line with delay or loss is a pair of TAP devices with `wire`
(`tests/src/bin/wire.rs`) between them, because not every kernel has netem. No device ever is in the machine's own namespace, and
when the block ends, however it ends, the namespaces go and take everything with them.
"""

import contextlib
import json
import secrets
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .tools import build, output, run

PREFIX = "hl-bench-"
# The longest that a packet waits for its turn on a shaped line, as in a home router.
QUEUE_MS = 50
TAP = Path(__file__).with_name("tap.py")


@dataclass
class Wire:
    """A long line: seconds from end to end (half a round trip), share of packets lost each way, bits a second each way."""

    delay: float
    rate: float
    loss: float = 0.0
    seed: int = 1

    def options(self):
        return f"delay_ms={self.delay * 1000:.0f},rate={self.rate:.0f},loss={self.loss},queue_ms={QUEUE_MS},seed={self.seed}"


class Host(str):
    """A network namespace, by its name. `address` is where it is reached."""

    def shape(self, up=None, down=None):
        """Holds the line to these rates, in bits a second; None is as fast as it goes."""
        for namespace, device, rate in ((self, "eth0", up), (self.switch, self.port, down)):
            # Without an earlier rate there is nothing to delete.
            subprocess.run(["tc", "-n", namespace, "qdisc", "del", "dev", device, "root"], stderr=subprocess.DEVNULL)
            # Uncut packets would hide their headers from the counters.
            run("ip", "-n", namespace, "link", "set", device, "gso_max_segs", 1 if rate else 65535)
            if rate:
                burst = max(1600, min(32_000, int(rate / 8 / 100)))
                run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{rate:.0f}bit", "burst", burst,
                    "latency", f"{QUEUE_MS}ms" if rate > 1e6 else "2s")

    def sent(self):
        """Bytes that left this host so far, headers and all."""
        return self.counters()["tx"]["bytes"]

    def received(self):
        """Bytes that reached this host so far."""
        return self.counters()["rx"]["bytes"]

    def queue(self):
        """What became of the packets at the sending end of a shaped line: {"packets", "bytes", "drops"}."""
        return json.loads(output("tc", "-n", self, "-s", "-j", "qdisc", "show", "dev", "eth0", "root"))[0]

    def counters(self):
        return json.loads(output("ip", "-n", self, "-s", "-j", "link", "show", "eth0"))[0]["stats64"]


class Net:
    """A switch and the hosts that are plugged into it; gone when the block ends."""

    def __init__(self):
        self.prefix = f"{PREFIX}{secrets.token_hex(2)}-"
        self.switch = f"{self.prefix}switch"
        self.hosts = []
        self.wires = []

    def __enter__(self):
        try:
            run("ip", "netns", "add", self.switch)
            run("ip", "-n", self.switch, "link", "add", "switch", "type", "bridge", "forward_delay", 0)
            run("ip", "-n", self.switch, "link", "set", "switch", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def host(self, name, up=None, down=None, wire=None):
        """A new host, on a line of these rates or on a wire."""
        host = Host(f"{self.prefix}{name}")
        self.hosts.append(host)
        number = len(self.hosts)
        host.switch, host.port, host.address = self.switch, f"port{number}", f"10.77.1.{number}"
        run("ip", "netns", "add", host)
        run("ip", "-n", host, "link", "set", "lo", "up")
        if wire:
            self.lay(host, wire)
        else:
            run("ip", "-n", self.switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host)
        run("ip", "-n", self.switch, "link", "set", host.port, "master", "switch", "up")
        run("ip", "-n", host, "addr", "add", f"{host.address}/24", "dev", "eth0")
        run("ip", "-n", host, "link", "set", "eth0", "up")
        if not wire:
            host.shape(up, down)
        return host

    def lay(self, host, wire):
        """Joins the host to the switch by a wire."""
        program = build("wire", "-p", "hubless-tests", "--bin", "wire")
        ends = ((host, "eth0", 0), (self.switch, host.port, 1))
        command = []
        for namespace, device, descriptor in ends:
            run("ip", "-n", namespace, "tuntap", "add", "dev", device, "mode", "tap", "vnet_hdr")
            # Single packets where single packets are to be lost.
            command += ["ip", "netns", "exec", namespace, sys.executable, str(TAP), device, str(descriptor),
                        "plain" if wire.loss else "offload"]
        self.wires.append(subprocess.Popen([*command, program, wire.options()], stderr=subprocess.PIPE, text=True))

    def counted(self):
        """Ends the wires: what each passed and lost, both ways."""
        said = []
        for wire in self.wires:
            wire.send_signal(signal.SIGTERM)
            said.append(json.loads(wire.communicate(timeout=10)[1].strip().splitlines()[-1]))
        self.wires = []
        return said

    def close(self):
        # Once more where Ctrl-C comes in between: what is left behind would stay until the machine restarts.
        try:
            self.remove()
        except BaseException:
            self.remove()
            raise

    def remove(self):
        for wire in self.wires:
            wire.kill()
            wire.wait()
        for namespace in [*self.hosts, self.switch]:
            with contextlib.suppress(subprocess.CalledProcessError):
                pids = output("ip", "netns", "pids", namespace).split()
                for pid in pids:
                    subprocess.run(["kill", "-KILL", pid], stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL)
