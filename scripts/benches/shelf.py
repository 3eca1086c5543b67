"""The shelf: searching, listing and sorting a catalogue as large as the Hub's."""

import json
import os
import time
import urllib.parse

from .report import Found, Table
from .tools import Node, build, output, run, say

# As many as the Hub has.
COUNT = int(os.environ.get("HUBLESS_BENCH_REPOS", 3_200_000))
# What a client asks a node that runs; the index itself is asked by the example.
ASKED = ["sort=downloads&limit=20", "search=llama&sort=likes&limit=100", "filter=gguf&filter=text-generation&limit=100",
         "search=deepseek%20r1&limit=20", "sort=lastModified&limit=1000", "author=nobody"]


def measure(hubless, work):
    """All cases of this file. The generator is a process of its own, so its memory does not count."""
    example = build("examples/catalogue", "-p", "hubless-store", "--example", "catalogue")
    data = work / "shelf-node"
    with Node(hubless, data):
        pass  # makes the folder, its key and its owner's note
    say(f"making {COUNT} repositories")
    run(example, "generate", data, COUNT)
    say("asking the index")
    index = json.loads(output(example, "measure", data))
    say("asking a node")
    begun = time.monotonic()
    with Node(hubless, data) as node:
        opening = time.monotonic() - begun
        asked = [ask(node.hello["http"], query) for _ in range(20) for query in ASKED]
        peak = node.peak_mib()
    return tell(index, opening, asked, peak)


def ask(base, query):
    """Milliseconds until a listing was answered."""
    url = urllib.parse.urljoin(base, f"/api/models?{query}")
    seconds = output("curl", "-sf", "-o", "/dev/null", "-w", "%{time_total}", url)
    return float(seconds) * 1000


def tell(index, opening, asked, peak):
    found = Found()
    asked.sort()
    p99 = asked[min(len(asked) - 1, len(asked) * 99 // 100)]
    found.at_most("the index of 3.2 million repositories: search, list, sort, p99", index["all"]["p50_p99_worst_ms"][1], 20, " ms", 1)
    found.at_most("the same through the door, p99", p99, 20, " ms", 1)
    found.at_most("opening the node on it", opening, 3, " s", 1)
    found.at_most("resident memory of the node, peak", peak, 400, " MiB", 0)
    rows = [[name, str(c["count"]), *(f"{ms:.1f}" for ms in c["p50_p99_worst_ms"])]
            for name, c in [("all", index["all"]), *sorted(index["classes"].items())]]
    found.tables.append(Table(f"The index of {index['repositories']:,} repositories: milliseconds an answer, by page size",
                              ["questions", "asked", "half", "p99", "worst"], rows))
    return found
