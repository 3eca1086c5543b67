"""Eight hosts that want the same files at the same moment from one that has little upload, as after a release."""

import contextlib
import json
import signal

from ..hosts import Net
from ..report import Found
from ..tools import Node, fresh, install_debian, random_file, say, wait_for_peer
from . import torrents
from .runs import MIB, Meter, at_most, chart, copies, in_turn, pull, table, together, wall

SIZE = 256 * MIB
FILES = 16
LEECHES = 8
# Bits a second of every host.
UP, DOWN = 50e6, 200e6
# Nobody can be done before the seed has sent every byte once.
BOUND = SIZE * 8 / UP
# The longest that one run may take, in seconds.
LIMIT = 180
OURS, OURS_FILES, OURS_LOST = "hubless", f"hubless, {FILES} files", "hubless, one killed and one stopped"


def measure(hubless, work):
    install_debian("python3-libtorrent")
    random_file(work / "one" / "model.safetensors", SIZE)
    for n in range(FILES):
        random_file(work / "many" / f"model-{n:05}-of-{FILES:05}.safetensors", SIZE // FILES)
    torrent, many = torrents.make(work, work / "one", "model.safetensors"), torrents.make(work, work, "many")
    contenders = {
        OURS: lambda: ours(hubless, work, work / "one"),
        OURS_FILES: lambda: ours(hubless, work, work / "many"),
        OURS_LOST: lambda: ours(hubless, work, work / "one", lose_two),
        "libtorrent": lambda: theirs(work, torrent, work / "one", False),
        "libtorrent, super-seeding": lambda: theirs(work, torrent, work / "one", True),
        f"libtorrent, super-seeding, {FILES} files": lambda: theirs(work, many, work, True),
    }
    return tell(in_turn(contenders))


def hosts(net):
    return [net.host(name, UP, DOWN) for name in ("seed", *(f"leech{n}" for n in range(LEECHES)))]


def lose_two(meter, leeches):
    """The first leecher dies, the second neither answers nor goes away."""
    meter.forget(leeches[0])
    leeches[0].child.kill()
    leeches[1].child.send_signal(signal.SIGSTOP)


def ours(hubless, work, folder, trouble=None):
    """The last of those that nothing happens to counts."""
    with Net() as net, contextlib.ExitStack() as stack:
        seed_host, *leech_hosts = hosts(net)
        seed = stack.enter_context(Node(hubless, fresh(work / "seed"), seed_host))
        seed.ask("add", folder, "bench/crowd")
        leeches = []
        for n, host in enumerate(leech_hosts):
            leeches.append(stack.enter_context(Node(hubless, fresh(work / f"leech-{n}"), host, "--bootstrap", seed.hello["bootstrap"])))
            wait_for_peer(leeches[-1])
        meter = Meter([seed, *leeches], seed_host)
        halfway = (BOUND / 2, lambda: trouble(meter, leeches)) if trouble else None
        took = together([pull(leech, "bench/crowd", seed) for leech in leeches], LIMIT, halfway, skip=2 if trouble else 0)
        counted = took[2:] if trouble else took
        done = None not in counted
        run = meter.run(max(counted) if done else LIMIT, len(counted) * SIZE, SIZE, done)
        say("done after " + ", ".join("never" if t is None else f"{t:.1f}" for t in took)
            + f"; verified from the seed: {taken(seed, leeches[2:] if trouble else leeches) / SIZE:.2f} copies")
        queue = seed_host.queue()
        say(f"the seed's line: {queue['packets']} packets of {queue['bytes'] / queue['packets']:.0f} bytes, {queue['drops']} dropped")
        if trouble:
            leeches[1].child.send_signal(signal.SIGCONT)
        return run


def taken(seed, leeches):
    """Verified bytes that the leechers had from the seed: what it sent beyond that was headers, or sent again."""
    said = [json.loads(line) for leech in leeches for line in leech.said("peers", "--json").splitlines()]
    return sum(peer["bytes_from"] for peer in said if peer["node"] == seed.hello["node"])


def theirs(work, torrent, folder, super_seeding):
    with Net() as net:
        seed_host, *leech_hosts = hosts(net)

        def measured(peers):
            meter = Meter(peers, seed_host)

            def last(took):
                done = None not in took
                return meter.run(max(took) if done else LIMIT, LEECHES * SIZE, SIZE, done)
            return last

        return torrents.fetch(work, torrent, folder, [seed_host], leech_hosts, LIMIT, measured, super_seeding)


def tell(runs):
    found = Found()
    case = f"{SIZE // MIB} MiB, 1 seed at {UP / 1e6:.0f} Mbit/s up, {LEECHES} leechers at {UP / 1e6:.0f} up and {DOWN / 1e6:.0f} down, all at once"
    for name in (OURS, OURS_FILES):
        if name in runs:
            what = case if name == OURS else f"the same with {FILES} files of {SIZE // FILES // MIB} MiB"
            limit = round(1.15 * BOUND)
            at_most(found, f"{what}: last finisher (the fluid bound is {BOUND:.1f} s)", wall(runs[name]), limit, runs[name], " s", 1)
            at_most(found, f"what its seed sent ({name}), copies of the files", copies(runs[name]), 1.10, runs[name])
    if OURS in runs and OURS_LOST in runs:
        lost = wall(runs[OURS_LOST]) / wall(runs[OURS])
        case = "one leecher killed and one stopped half way: last of the others, against an undisturbed crowd"
        at_most(found, case, lost, 1.10, runs[OURS_LOST] + runs[OURS])
    title = f"{SIZE // MIB} MiB from a seed with little upload to {LEECHES} that start together"
    found.tables.append(table(title, runs))
    found.charts.append(chart("crowd", title, runs, round(1.15 * BOUND), 1.10))
    return found
