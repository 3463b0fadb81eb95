"""What was called at another address is neither looked for nor undone where its name leads now."""

from dataclasses import replace

from service.domain.pairing import SideState
from tests.unit.engine.scene import ONE, scene


def test_an_appliance_that_is_called_elsewhere_by_now_is_left_alone_and_that_is_said() -> None:
    with scene() as here:
        here.turn(ONE, task_ms=(60_000, 60_000))
        here.until(lambda: here.events.count("TaskAccepted") == 2)
        worker = here.stop()
        appliance = here.world.appliances[ONE]
        appliance.identity = replace(appliance.identity, management_url="https://elsewhere.test")
        here.stage.register(ONE)
        here.stage.start_another(worker)
        side, _ = here.until_over().sides
        assert side.state is SideState.ROLLBACK_FAILED
        assert side.error is not None
        assert side.error.code == "ApplianceMoved"
        assert here.calls(ONE, "DELETE") == 0
