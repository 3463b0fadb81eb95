"""Every way in which an appliance may fail, and what it means for the call."""

import asyncio

import pytest

from service.appliance.exchange import granted
from service.appliance.limits import CallTimeouts, Limits
from service.domain.errors import Ambiguous, ApplianceError, NotSent, Rejected
from simulator import Knobs, Rule, fault
from tests.integration.appliance.rigs import rig

HASTY = CallTimeouts(connect_s=0.4, answer_s=0.2, total_s=0.5)

ON_POST_SITES: list[tuple[Rule, type[ApplianceError], str, int]] = [
    (fault("lost_answer", path="/sites"), Ambiguous, "ConnectionLost", 1),
    (fault("reset", path="/sites"), Ambiguous, "ConnectionLost", 0),
    (fault("late", path="/sites", ms=1), Ambiguous, "ConnectionLost", 1),
    (fault("hang", path="/sites"), Ambiguous, "AnswerTimeout", 0),
    (fault("hang", path="/sites", when="after"), Ambiguous, "AnswerTimeout", 1),
    (fault("drip", path="/sites", ms=50), Ambiguous, "AnswerTimeout", 1),
    (fault("status", path="/sites", status=500), Ambiguous, "GeneralServerFailure", 0),
    (
        fault("status", path="/sites", status=500, when="after"),
        Ambiguous,
        "GeneralServerFailure",
        1,
    ),
    (
        fault("status", path="/sites", status=502, when="after"),
        Ambiguous,
        "GeneralServerFailure",
        1,
    ),
    (fault("status", path="/sites", status=503), NotSent, "GeneralServerFailure", 0),
    (fault("status", path="/sites", status=429), NotSent, "GeneralServerFailure", 0),
    (fault("status", path="/sites", status=400, code="BadUserInput"), Rejected, "BadUserInput", 0),
    (fault("status", path="/sites", status=403, code="Forbidden"), Rejected, "Forbidden", 0),
    (fault("status", path="/sites", status=404, code="SiteNotFound"), Rejected, "SiteNotFound", 0),
    (fault("status", path="/sites", status=409, code="X"), Rejected, "X", 0),
    (fault("redirect", path="/sites"), Ambiguous, "UnexpectedRedirect", 0),
    (fault("garbage", path="/sites", body="html"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="truncated"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="text"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="empty"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="list"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="binary"), Ambiguous, "UnreadableAnswer", 1),
    (fault("garbage", path="/sites", body="cut"), Ambiguous, "ConnectionLost", 1),
    (fault("huge", path="/sites", mb=3), Ambiguous, "AnswerTooLarge", 1),
    (fault("gzip_bomb", path="/sites", mb=3), Ambiguous, "AnswerEncoded", 1),
    (fault("down", path="/sites", ms=50), Ambiguous, "ConnectionLost", 0),
]


@pytest.mark.parametrize(
    ("rule", "kind", "code", "accepted"),
    ON_POST_SITES,
    ids=[
        f"{rule.action.kind}-{rule.action.status}-{rule.action.when}-{rule.action.body}"
        for rule, *_ in ON_POST_SITES
    ],
)
async def test_a_mutating_call_meets_every_fault_and_is_sent_once(
    rule: Rule, kind: type[ApplianceError], code: str, accepted: int
) -> None:
    async with rig(timeouts=HASTY, limits=Limits(max_body=1_000_000)) as here:
        await here.client.about()
        here.here.add_fault(rule)
        with pytest.raises(ApplianceError) as caught:
            await here.client.pair(here.there, "", granted)
        assert (type(caught.value), caught.value.error.code) == (kind, code)
        assert here.requests("POST /sites") == 1
        here.simulated.truth()
        assert here.accepted <= accepted


@pytest.mark.parametrize(
    "rule",
    [
        fault("lost_answer", path="/sites", times=2),
        fault("hang", path="/sites"),
        fault("drip", path="/sites", ms=300),
        fault("status", path="/sites", status=500),
        fault("status", path="/sites", status=503),
        fault("garbage", path="/sites"),
        fault("garbage", path="/sites", body="text"),
        fault("garbage", path="/sites", body="cut", times=2),
        fault("huge", path="/sites", mb=3),
        fault("gzip_bomb", path="/sites", mb=3),
    ],
    ids=lambda rule: f"{rule.action.kind}-{rule.action.body}",
)
async def test_a_call_that_only_looks_may_simply_be_repeated(rule: Rule) -> None:
    async with rig(timeouts=HASTY, limits=Limits(max_body=1_000_000)) as here:
        here.here.add_fault(rule)
        with pytest.raises(NotSent):
            await here.client.peers()
        assert await here.client.peers() == ()


async def test_a_lost_connection_under_a_call_that_only_looks_is_made_up_for() -> None:
    async with rig() as here:
        here.here.add_fault(fault("reset", path="/sites"))
        assert await here.client.peers() == ()
        assert here.requests("GET /sites") == 2


@pytest.mark.parametrize("mode", ["refuse", "slam"])
async def test_an_appliance_that_is_down_was_sent_nothing(mode: str) -> None:
    async with rig() as here:
        await here.here.down("refuse" if mode == "refuse" else "slam")
        with pytest.raises(NotSent) as caught:
            await here.client.pair(here.there, "", granted)
        assert caught.value.error.code in {"ApplianceUnreachable", "TlsFailed"}
        await here.here.up()
        await here.client.pair(here.there, "", granted)
        assert here.accepted == 1


async def test_the_pause_that_an_appliance_asks_for_is_told() -> None:
    async with rig() as here:
        here.here.add_fault(fault("status", path="/sites", status=503, retry_after=17))
        with pytest.raises(NotSent) as caught:
            await here.client.pair(here.there, "", granted)
        assert caught.value.retry_after_s == 17.0


async def test_a_port_that_never_shakes_hands_is_given_up_in_time() -> None:
    never = asyncio.Event()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await never.wait()
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(silence, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with rig(timeouts=HASTY, management_url=f"https://127.0.0.1:{port}") as here:
            with pytest.raises(NotSent) as caught:
                await here.client.pair(here.there, "", granted)
            assert caught.value.error.code == "ConnectTimeout"
        never.set()


async def test_an_answer_that_is_just_slow_is_waited_for() -> None:
    async with rig() as here:
        here.here.add_fault(fault("slow", path="/sites", ms=100))
        await here.client.pair(here.there, "", granted)
        assert here.accepted == 1


@pytest.mark.parametrize("media_type", ["vendor", "plain"])
@pytest.mark.parametrize("unknown_accept", ["406", "plain"])
@pytest.mark.parametrize("api_version", ["4.5", "4.7", "9.9"])
async def test_every_version_of_appliance_is_understood(
    media_type: str, unknown_accept: str, api_version: str
) -> None:
    async with rig() as here:
        for each in here.simulated.appliances:
            each.turn(media_type=media_type, unknown_accept=unknown_accept, api_version=api_version)
        task = await here.client.pair(here.there, "", granted)
        assert (await here.client.finished(task.id)).succeeded
        assert len(await here.client.peers()) == 1


async def test_no_more_mutating_calls_are_under_way_than_the_appliance_is_registered_for() -> None:
    limits = Limits(connections=8)
    async with rig(Knobs(), limits=limits, max_in_flight=3) as here:
        here.here.add_fault(fault("slow", path="/sites", ms=100, times=None, when="before"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [here.client.pair(here.there, "", granted) for _ in range(9)]
        await asyncio.gather(*calls, return_exceptions=True)
        assert loop.time() - began >= 0.3
        assert here.counts.connections <= 3
