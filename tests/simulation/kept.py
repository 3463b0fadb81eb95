"""Seeds that once broke a promise, each with what was wrong: played again always.

A seed stands for the same course only as long as the code under it draws the same numbers; it is
kept all the same, for it costs nothing.
"""

KEPT = {
    61: "a record made under an earlier registration was taken for somebody else's",
    102: "what was raised while looking after a forgotten task escaped from a rollback",
    1076: "a pairing that was dropped while another one was disowned was forgotten",
    30028: "the clock was set forward between a beat and a burial: the living were buried",
    740706: "by hand it was undone after the verification began, but before that was written",
    777043: "a retry of a rollback made a call again at once, though the first ran unseen",
    80003836: "what a failed task said was there already was undone as if that task had made it",
    90003256: "an appliance that was removed as its list was waited for counted as a defect",
    90006342: "a list that was long in coming counted as what was there when it came",
    90007353: "a call came late, after what somebody else had made was undone in its place",
}
