"""What the swarm's cases share: nodes that pull at the same moment, and what one run of a case came to."""

import contextlib
import os
import resource
import subprocess
import time
from dataclasses import dataclass

from ..options import OPTIONS
from ..report import Chart, Goal, Table, spread
from ..tools import Process, median, say, sync

MIB = 1 << 20
GB = 1e9


@dataclass
class Run:
    """One run: seconds until the last one was done, CPU seconds of all processes for each GB that arrived, and how many copies of
    the files the seed sent, headers and all."""

    wall: float
    cpu: float
    copies: float | None = None
    done: bool = True


class Meter:
    """Measures one run: CPU of processes that go on, of children that end meanwhile, and what the hosts that began with the files
    sent."""

    def __init__(self, processes, *seeds):
        self.processes, self.seeds = list(processes), seeds
        self.before, self.children = self.cpu(), children_cpu()
        self.sent = self.seeds_sent()
        self.lost = 0.0

    def cpu(self):
        return sum(process.cpu() for process in self.processes)

    def seeds_sent(self):
        return sum(seed.sent() for seed in self.seeds)

    def forget(self, process):
        """Before a process is killed: what it used so far counts."""
        self.lost += process.cpu()
        self.processes.remove(process)

    def run(self, wall, arrived, size, done=True):
        """`arrived` bytes came in all, of files of `size` bytes."""
        spent = self.cpu() + self.lost - self.before + children_cpu() - self.children
        copies = (self.seeds_sent() - self.sent) / size if self.seeds else None
        return Run(wall, spent / (arrived / GB), copies, done)


def children_cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def together(commands, limit, halfway=None, skip=0):
    """Starts commands, (host, arguments) each, at the same moment; the seconds that each took, None if it failed or was not done
    within `limit` seconds. `halfway`, (seconds, what to do), is done meanwhile; the first `skip` are not waited for."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        open_ones = {n: stack.enter_context(Process(command, host, **quiet)) for n, (host, command) in enumerate(commands)}
        took = [None] * len(commands)
        while any(n >= skip for n in open_ones) and time.monotonic() - began < limit:
            time.sleep(0.02)
            now = time.monotonic() - began
            if halfway and now >= halfway[0]:
                halfway[1]()
                halfway = None
            for n, process in list(open_ones.items()):
                if (code := process.child.poll()) is not None:
                    took[n] = None if code else now
                    del open_ones[n]
        return took


def pull(node, what, publisher):
    """The command by which a node fetches a repository."""
    return node.host, [node.hubless, "--data", node.data, "pull", what, "--accept-from", publisher.hello["node"]]


def in_turn(contenders, warm_up=False):
    """Runs contenders, name → function, in turn, several times: name → runs. With `warm_up` the first turn is not counted. Every other
    turn goes backwards: what one leaves behind (heat, memory to be cleaned) is not always the same one's burden."""
    contenders = {name: run for name, run in contenders.items() if OPTIONS.only in name}
    runs = {name: [] for name in contenders}
    for turn in range(OPTIONS.runs + warm_up):
        for name, once in reversed(contenders.items()) if turn % 2 else contenders.items():
            sync()
            run = once()
            copies = "" if run.copies is None else f", the seed sent {run.copies:.2f} copies"
            say(f"{name}: {'' if run.done else 'not done within '}{run.wall:.1f} s, {run.cpu:.1f} CPU s a GB{copies}")
            if turn or not warm_up:
                runs[name].append(run)
    return runs


def wall(runs):
    return median([run.wall for run in runs])


def copies(runs):
    return median([run.copies for run in runs])


def done(runs):
    return all(run.done for run in runs)


def at_most(found, case, value, limit, involved, unit="", digits=2):
    """A goal that holds only if all runs that are in it came to their end: one that was cut off says nothing of its time, nor of
    what was sent."""
    if done(involved):
        found.at_most(case, value, limit, unit, digits)
    else:
        found.goals.append(Goal(case, f"≤ {limit:g}{unit}", "cut off", False))


def table(title, runs):
    """All figures of a case."""
    rows = []
    for name, those in runs.items():
        sent = [run.copies for run in those if run.copies is not None]
        seconds = spread([run.wall for run in those], 1) + ("" if done(those) else ", cut off")
        rows.append([name, seconds, spread([run.cpu for run in those], 1), spread(sent) if sent else ""])
    return Table(title, ["", "seconds", "CPU seconds a GB", "sent by those who had it, copies"], rows)


def chart(name, title, runs, wall_goal=None, copies_goal=None):
    """The same as a picture."""
    def bars(of):
        values = {name if done(those) else f"{name} (cut off)": [of(run) for run in those if of(run) is not None]
                  for name, those in runs.items()}
        return {name: [median(v), min(v), max(v)] for name, v in values.items() if v}

    panels = [["seconds", bars(lambda run: run.wall), wall_goal], ["CPU seconds a GB", bars(lambda run: run.cpu), None],
              ["copies sent by the seed", bars(lambda run: run.copies), copies_goal]]
    return Chart(name, title, [panel for panel in panels if panel[1]])


def log_tail(path, lines=5):
    with contextlib.suppress(OSError):
        return "".join(open(path, errors="replace").readlines()[-lines:])
    return ""


def empty(path):
    """An empty folder at a path."""
    os.makedirs(path)
    return path
