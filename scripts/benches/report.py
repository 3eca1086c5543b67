"""What a case found, and how BENCHMARKS.md shows it.

Results are kept in `docs/bench`, a group of cases each, so that one group can be measured again without the others.
"""

import json
import os
import platform
import re
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import pictures
from .tools import TOP

# In the repository, so that one group can be measured anew on another machine without losing the rest.
RESULTS = PICTURES = TOP / "docs" / "bench"


@dataclass
class Goal:
    """One figure that was asked for."""

    case: str
    goal: str
    reached: str
    met: bool

    def line(self):
        return f"| {self.case} | {self.goal} | {self.reached} | {'met' if self.met else '**missed**'} |"


@dataclass
class Table:
    """Figures behind the goals."""

    title: str
    header: list
    rows: list

    def lines(self):
        out = ["", f"## {self.title}", "", f"| {' | '.join(self.header)} |", "|" + "---|" * len(self.header)]
        return out + [f"| {' | '.join(row)} |" for row in self.rows]


@dataclass
class Chart:
    """The same figures as a picture, `docs/bench/NAME.svg`: panels are [unit, name → [median, lowest, highest], goal or None]."""

    name: str
    title: str
    panels: list


@dataclass
class Found:
    """What a group of cases found."""

    goals: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    charts: list = field(default_factory=list)
    note: str = ""
    # Seconds that all of it took.
    took: float = 0.0

    def at_most(self, case, value, limit, unit="", digits=2):
        self.goals.append(Goal(case, f"≤ {limit:g}{unit}", f"{value:.{digits}f}{unit}", value <= limit))

    def at_least(self, case, value, limit, unit="", digits=2):
        self.goals.append(Goal(case, f"≥ {limit:g}{unit}", f"{value:.{digits}f}{unit}", value >= limit))

    def below(self, case, value, limit):
        self.goals.append(Goal(case, f"< {limit:g}", f"{value:.2f}", value < limit))


def spread(values, digits=2):
    """Median, lowest and highest; of one value that alone."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f} (one run)"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def machine():
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}"


def keep(group, found):
    RESULTS.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=TOP, capture_output=True, text=True).stdout.strip()
    (RESULTS / f"{group}.json").write_text(json.dumps({"commit": commit, "machine": machine(), **asdict(found)}, indent=1) + "\n")


def write(groups):
    """Writes BENCHMARKS.md and its pictures from the newest results of each group; its notes stay."""
    kept = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in groups if (RESULTS / f"{name}.json").exists()}
    lines = ["# Benchmarks", "",
             "Written by `scripts/bench`. Ratios within one run are what counts: the machine is shared and noisy. Figures are the median of",
             "several runs (lowest to highest), taken in turn with what they are measured against, or of one run where it says so. On lines",
             "that nothing holds back, a first run is not counted.", ""]
    lines += ["| cases | at commit | machine | took |", "|---|---|---|---|"]
    lines += [f"| {name} | {data['commit']} | {data['machine']} | {took(data)} |" for name, data in kept.items()]
    lines += ["", "## What was asked, and what was reached", "", "| case | goal | reached | |", "|---|---|---|---|"]
    lines += [Goal(**goal).line() for data in kept.values() for goal in data["goals"]]
    for data in kept.values():
        lines += [data["note"]] if data["note"] else []
        lines += [line for table in data["tables"] for line in Table(**table).lines()]
        for chart in data.get("charts", []):
            pictures.write(PICTURES / f"{chart['name']}.svg", chart["title"], chart["panels"])
            lines += ["", f"![{chart['title']}]({(PICTURES / chart['name']).relative_to(TOP)}.svg)"]
    notes = TOP / "BENCHMARKS.md"
    old = notes.read_text().partition("## Notes")[2] if notes.exists() else ""
    lines += ["", "## Notes" + (old.rstrip() or "\n\nNone."), ""]
    notes.write_text("\n".join(lines))
    print("\n".join(lines))


def took(data):
    return f"{data['took']:.0f} s" if data.get("took") else ""


def show(found):
    """Prints what was found, and keeps nothing."""
    lines = [goal.line() for goal in found.goals]
    print("\n".join(lines + [line for table in found.tables for line in table.lines()]))
