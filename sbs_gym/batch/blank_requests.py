"""The requests of an episode, written over those of the last one."""

from __future__ import annotations

from sbs_gym.jit import compiled
from sbs_gym.sim.state import World
from sbs_gym.types import RequestTable


class BlankRequests:
    """What requests and their decode look like before they arrive: one record of each."""

    def __init__(self, template: World) -> None:
        self._request, self._decode = template.requests[:1].copy(), template.decodes[:1].copy()

    def put(self, world: World, table: RequestTable) -> None:
        """Write the requests of an episode, none of which has arrived, over those of the last."""
        columns = (table.arrived_at_s, table.input_tokens, table.output_tokens)
        _put(world.requests, self._request, *columns, world.decodes, self._decode)


@compiled
def _put(  # type: ignore[no-untyped-def]
    requests, blank_request, arrived_at_s, input_tokens, output_tokens, decodes, blank_decode
):
    count = len(arrived_at_s)
    for r in range(count):
        requests[r] = blank_request[0]
        request = requests[r]
        request.arrived_at_s = arrived_at_s[r]
        request.input_tokens = input_tokens[r]
        request.output_tokens = output_tokens[r]
    for r in range(min(count, len(decodes))):
        decodes[r] = blank_decode[0]
