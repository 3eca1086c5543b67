"""The swarm: one peer, a crowd, long lines, an origin beside it, and what is only ever simulated."""

from . import crowd, far, idle, pair, providers, simulated, webseed

# Each can be run alone: `scripts/bench swarm.crowd`.
CASES = {"pair": pair.measure, "crowd": crowd.measure, "providers": providers.measure, "far": far.measure,
         "webseed": webseed.measure, "idle": idle.measure, "mesh": simulated.measure_mesh,
         "simulated": simulated.measure_plan}
