"""What the command line of `scripts/bench` said, for all cases."""

from dataclasses import dataclass


@dataclass
class Options:
    """`runs`: counted runs of each contender in the swarm's cases. `only`: contenders whose names contain this."""

    runs: int = 2
    only: str = ""


OPTIONS = Options()
