"""Simulated VMware Cloud Director Availability appliances ("H4"), over real TLS.

Words
-----
World       all appliances together: pure state, no I/O, no clock. Every call brings the time.
Appliance   one of them: sessions, peers, tasks, knobs, fault rules.
Peer        the record that one appliance holds of another.
Call, Visit, Answer
            a request without its transport, its stay at an appliance, what it is told.
Task        an appliance's long-running task; its state follows from the time of asking.
Knob        a behaviour that h4-api.md leaves open, with all its ways.
Fault       a rule that spoils calls: match, skip, at most, probability, action.
Truth       what the appliances really did, whatever they answered.
Fleet       a world behind TLS ports, with one control endpoint.

Guarantees
----------
1. One seed, one course: the same calls at the same times get the same answers, ports and
   certificates aside, which are new each time.
2. Every mutating call that an appliance took is in the truth from then on, once, its answer lost or
   not, its task over or not.
3. A task takes effect at its end, in the order of ends over the whole world.
4. What an appliance says of a peer follows from both sides' records, former ones too, from their
   certificates and from who is reached; nothing but `task_mismatch` makes it say anything else.
5. When a fleet's context ends nothing of it is left, hung requests included, within a second.

It shares no code with the service, so that one misreading of the vendor cannot pass twice.
"""

from simulator.faults import Action, BadFault, Rule, fault
from simulator.handle import SimulatedAppliance
from simulator.knobs import BadKnob, Knobs
from simulator.serve import Fleet, FleetOptions, run_until_stopped
from simulator.world import World

__all__ = [
    "Action",
    "BadFault",
    "BadKnob",
    "Fleet",
    "FleetOptions",
    "Knobs",
    "Rule",
    "SimulatedAppliance",
    "World",
    "fault",
    "run_until_stopped",
]
