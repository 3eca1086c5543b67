"""What the cases share: what they measure against, hosts, processes, timing."""

import functools
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hubless"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
SENDME_VERSION = "0.37.1"
GIB = 1 << 30
SIZE = int(os.environ.get("HUBLESS_BENCH_BYTES", 2 * GIB))
RUNS = int(os.environ.get("HUBLESS_BENCH_RUNS", 5))
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*command, **options):
    return subprocess.run([str(c) for c in command], check=True, **options)


def output(*command):
    return run(*command, capture_output=True, text=True).stdout.strip()


# Program → the Debian package that brings it.
PROGRAMS = {"nginx": "nginx-light", "curl": "curl", "b3sum": "b3sum", "openssl": "openssl", "ip": "iproute2", "wrk": "wrk", "ab": "apache2-utils",
            "tc": "iproute2", "aria2c": "aria2"}


def install_packages():
    install_debian(*{package for program, package in PROGRAMS.items() if not shutil.which(program)})


def install_debian(*packages):
    """Those of these Debian packages that are missing."""
    known = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages], capture_output=True, text=True)
    missing = [package for package in packages if f"{package} installed" not in known.stdout.splitlines()]
    if missing:
        say(f"installing {' '.join(missing)}")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, stdout=subprocess.DEVNULL)


@functools.cache
def build(program, *which):
    """Builds a program of this workspace (release), once a run, and gives its path. HUBLESS_BENCH_BIN names a folder whose programs
    are taken as they are."""
    if ready := os.environ.get("HUBLESS_BENCH_BIN"):
        return Path(ready) / Path(program).name
    say(f"building {program} (release)")
    run("cargo", "build", "--release", "--locked", *which, cwd=TOP, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    return TARGET / "release" / program


def build_hubless():
    return build("hubless", "-p", "hubless")


def install_sendme():
    sendme = CACHE / "bench" / "bin" / "sendme"
    if not sendme.exists():
        say(f"building sendme {SENDME_VERSION}, once; this takes minutes")
        run("cargo", "install", "sendme", "--version", SENDME_VERSION, "--locked", "--no-default-features",
            "--root", CACHE / "bench", "--target-dir", CACHE / "bench-target")
    return sendme


def install_python(name, *packages):
    """A Python environment of its own with these packages; made once for each set of packages."""
    venv = CACHE / "bench" / name
    stamp = venv / ".made-from"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        say(f"installing {' '.join(packages)}")
        shutil.rmtree(venv, ignore_errors=True)
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        stamp.write_text(" ".join(packages))
    return venv / "bin"


class Process:
    """A process that is stopped when the block ends; tells its CPU time and its largest resident size."""

    def __init__(self, command, host=None, **options):
        prefix = ["ip", "netns", "exec", host] if host else []
        self.child = subprocess.Popen([*prefix, *map(str, command)], **options)
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def cpu(self):
        """CPU seconds of the process and its children so far."""
        total = 0
        for pid in [self.pid, *self.children()]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / CLOCK_TICKS

    def peak_mib(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def children(self):
        try:
            return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []


def timed(command, host=None, **options):
    """Runs a command to its end: wall seconds and CPU seconds."""
    prefix = ["ip", "netns", "exec", host] if host else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    options.setdefault("stdout", subprocess.DEVNULL)
    run(*prefix, *command, **options)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Node(Process):
    """A hubless node on one of the hosts (`hosts.Host`), or on this machine itself."""

    def __init__(self, hubless, data, host=None, *arguments, origin=None, open_door=False):
        self.hubless, self.data, self.host = hubless, data, host
        log = open(f"{data}.log", "a")
        upstream = ["--origin", origin] if origin else ["--no-origin"]
        address = host.address if host else "127.0.0.1"
        super().__init__([hubless, "--data", data, "run", "--http", f"{address if open_door else '127.0.0.1'}:0",
                          "--listen", f"{address}:0", "--no-mdns", *upstream, "--json", *arguments],
                         host, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.child.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the node did not start; see {data}.log")
        self.hello = json.loads(line)

    def ask(self, *arguments):
        with open(f"{self.data}.log", "a") as log:
            return timed([self.hubless, "--data", self.data, *arguments], self.host, stderr=log)


    def said(self, *arguments):
        """What a command prints that is asked of this node."""
        prefix = ["ip", "netns", "exec", self.host] if self.host else []
        return output(*prefix, self.hubless, "--data", self.data, *arguments)


NGINX = """
worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/nginx.log;
events {{}}
http {{ access_log off; sendfile on; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5; server {{ listen {port}; root {root}; }} }}
"""


def nginx(work, root, port, host=None):
    conf = work / f"nginx-{port}.conf"
    conf.write_text(NGINX.format(work=work, root=root, port=port))
    process = Process(["nginx", "-c", conf], host, stderr=subprocess.DEVNULL)
    time.sleep(1)
    return process


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    return path


def sync():
    """What one run left to be written is not the next one's burden."""
    os.sync()


def wait_for_peer(node):
    for _ in range(300):
        if node.said("peers", "--json").strip():
            return
        time.sleep(0.1)
    raise SystemExit("bench: the nodes did not find each other")


def median(values):
    return statistics.median(values)


def random_file(path, size):
    """A file whose content no disk, filesystem or line makes smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    run("sh", "-c", f"head -c {size} /dev/urandom > {path}")
