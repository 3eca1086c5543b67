"""What no machine here has hosts for: a thousand leechers in the plan's simulator, and a mesh of DHT nodes in one process.

Both are examples of their crates that print JSON lines: {"case", "value", "limit", "unit", "least"} where it is a goal (`least`: more
is better), and whatever else they found.
"""

import json

from ..report import Found, Table
from ..tools import TOP, build, output, say

# Example, its crate, and the longest that it may take in seconds.
EXAMPLES = (("swarm", "plan", 300), ("mesh", "discovery", 1200))


def measure(_hubless, _work):
    found = Found()
    for example, crate, limit in EXAMPLES:
        if not any((TOP / "crates" / crate / "examples" / place).exists() for place in (f"{example}.rs", f"{example}/main.rs")):
            say(f"there is no example `{example}` in crates/{crate}; left out")
            continue
        program = build(f"examples/{example}", "-p", f"hubless-{crate}", "--example", example)
        say(f"running {example}")
        lines = output("timeout", limit, "nice", program).splitlines()
        tell(found, example, [json.loads(line) for line in lines if line.startswith("{")])
    return found


def tell(found, example, lines):
    rows = []
    for line in lines:
        case, value, limit, unit = line.get("case", example), line.get("value"), line.get("limit"), line.get("unit", "")
        if limit is not None:
            (found.at_least if line.get("least") else found.at_most)(case, value, limit, unit)
        further = {k: v for k, v in line.items() if k not in ("case", "value", "limit", "unit", "least")}
        rows.append([case, f"{value:.4g}{unit}" if value is not None else "", ", ".join(f"{k} {v}" for k, v in further.items())])
    if rows:
        found.tables.append(Table(f"Simulated: {example}", ["", "", "besides"], rows))
