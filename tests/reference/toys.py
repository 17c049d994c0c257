"""Small scenarios with their outcome worked out by hand; the compiled core is held to them too."""

from __future__ import annotations

from tests.reference.toy import Toy
from tests.reference.toys_handoff import HANDOFF_TOYS
from tests.reference.toys_passes import PASS_TOYS
from tests.reference.toys_rules import RULE_TOYS
from tests.reference.toys_steps import STEP_TOYS

TOYS: list[Toy] = [*PASS_TOYS, *RULE_TOYS, *HANDOFF_TOYS, *STEP_TOYS]
