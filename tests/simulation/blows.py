"""What befalls a run: each blow at its moment, and the end of all of them when it is calm."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from service.domain.ids import ApplianceName
from simulator.knobs import changed
from tests.simulation.appliances import CALM_KNOBS, thumbprint
from tests.simulation.clockwork import Node
from tests.simulation.process import Process
from tests.simulation.schedule import Befallen, Blow
from tests.simulation.sites import waits_at
from tests.simulation.stage import Stage


class Blows:
    """Strikes a stage as its schedule says."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._loop = stage.loop
        self._world = stage.air.world
        self._is_calm = False
        self._restarts: dict[Node, float] = {}
        self._strike: dict[Blow, Callable[[Befallen], None]] = {
            Blow.CRASH: self._crash,
            Blow.CRASH_SOON: self._crash_soon,
            Blow.PAUSE: self._pause,
            Blow.SHUTDOWN: self._shut_down,
            Blow.DATABASE_DOWN: self._database_down,
            Blow.DATABASE_CUT: self._database_cut,
            Blow.APPLIANCE_DOWN: self._appliance_down,
            Blow.APPLIANCE_CUT: self._appliance_cut,
            Blow.DARK: self._darken,
            Blow.ROTATION: self._rotate,
            Blow.RESTART: self._restart,
            Blow.FORGET: self._forget,
            Blow.EXPIRY: self._expire,
            Blow.PASSWORD: self._change_password,
            Blow.REMOVAL: self._remove,
            Blow.BY_HAND: self._act_by_hand,
            Blow.CLOCK_STEP: self._set_clock,
            Blow.MOVE: self._move,
            Blow.ADDRESS: self._readdress,
            Blow.PIN: self._rotate_management,
            Blow.USER: self._change_user,
            Blow.WRONG_PASSWORD: self._mistype_password,
        }
        self._left = stage.schedule.ambush.count if stage.schedule.ambush is not None else 0

    def arrange(self) -> None:
        """Put all of them, and the calm, into the loop's agenda."""
        schedule = self._stage.schedule
        for each in schedule.befallen:
            self._loop.at(each.at_s, partial(self._befall, each))
        self._loop.at(schedule.calm_s, self._calm_down)
        if self._left:
            self._loop.after_step = self._lie_in_wait

    def crashed(self, node: Node) -> None:
        """A process is gone: another one takes its place after a while."""
        process = self._stage.process_of(node)
        if process is not None:
            self._replace(process, self._restarts.get(node, 1.0))

    def _befall(self, each: Befallen) -> None:
        if not self._is_calm:
            self._stage.air.struck[each.blow] += 1
            self._strike[each.blow](each)

    def _calm_down(self) -> None:
        stage = self._stage
        self._is_calm = True
        self._loop.after_step = None
        stage.trace.tell("schedule", "calm")
        stage.weather.is_calm = True
        stage.air.down.clear()
        stage.air.cut.clear()
        self._heal_database()
        for process in stage.processes:
            process.node.crash_at = None
            self._loop.resume(process.node)
        for name in stage.names:
            self._world.lighten(name, stage.now_ms)
            knobs = self._world.appliances[name].knobs
            if changed(knobs, CALM_KNOBS) != knobs:
                self._world.turn(name, CALM_KNOBS, stage.now_ms)
            stage.register(name)
        if not stage.living:
            stage.start_process(stage.schedule.clocks[0])

    def _lie_in_wait(self, node: Node, ran: object) -> None:
        ambush = self._stage.schedule.ambush
        if ambush is None or not isinstance(ran, asyncio.Task) or ran.done():
            return
        if ambush.site in waits_at(ran):
            self._left -= 1
            if self._left == 0:
                self._loop.after_step = None
                self._loop.crash(node)

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        """In so many seconds, but not after it is calm: then all is healed at once."""
        self._loop.at(self._loop.instant + seconds, lambda: self._is_calm or do())

    def _process(self, each: Befallen) -> Process | None:
        living = self._stage.living
        return living[each.whom % len(living)] if living else None

    def _appliance(self, each: Befallen) -> str:
        return self._stage.names[each.other % len(self._stage.names)]

    def _replace(self, process: Process, after_s: float) -> None:
        calm_s = self._stage.schedule.calm_s
        at_s = min(self._loop.instant + after_s, max(calm_s, self._loop.instant))
        self._loop.at(at_s, lambda: self._start_another(process))

    def _start_another(self, before: Process) -> None:
        if len(self._stage.living) < len(self._stage.schedule.clocks):
            self._stage.start_another(before)

    # Processes.

    def _crash(self, each: Befallen) -> None:
        process = self._process(each)
        if process is not None:
            self._restarts[process.node] = each.lasts_s
            self._loop.crash(process.node)

    def _crash_soon(self, each: Befallen) -> None:
        process = self._process(each)
        if process is not None:
            self._restarts[process.node] = each.lasts_s
            process.node.crash_at = process.node.steps + each.steps

    def _pause(self, each: Befallen) -> None:
        process = self._process(each)
        if process is not None:
            self._stage.trace.tell(process.node.name, "stopped")
            self._loop.pause(process.node)
            self._later(each.lasts_s, lambda: self._resume(process))

    def _resume(self, process: Process) -> None:
        self._stage.trace.tell(process.node.name, "goes on")
        self._loop.resume(process.node)

    def _shut_down(self, each: Befallen) -> None:
        process = self._process(each)
        if process is not None and process.task is not None:
            self._stage.trace.tell(process.node.name, "is told to end")
            self._loop.post(process.node, 0.0, process.task.cancel)
            self._replace(process, each.lasts_s)

    # The database.

    def _database_down(self, each: Befallen) -> None:
        self._stage.trace.tell("database", "down")
        self._stage.database.is_down = True
        self._later(each.lasts_s, self._heal_database)

    def _database_cut(self, each: Befallen) -> None:
        process = self._process(each)
        if process is not None:
            self._stage.trace.tell(process.node.name, "does not reach the database any more")
            self._stage.database.cut.add(process.node.name)
            self._later(each.lasts_s, self._heal_database)

    def _heal_database(self) -> None:
        self._stage.trace.tell("database", "can be reached")
        self._stage.database.heal()

    # Appliances.

    def _appliance_down(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell(name, "down")
        self._stage.air.down.add(name)
        self._later(each.lasts_s, lambda: self._stage.air.down.discard(name))

    def _appliance_cut(self, each: Befallen) -> None:
        process, name = self._process(each), self._appliance(each)
        if process is not None:
            pair = (process.node.name, name)
            self._stage.trace.tell(process.node.name, f"does not reach {name} any more")
            self._stage.air.cut.add(pair)
            self._later(each.lasts_s, lambda: self._stage.air.cut.discard(pair))

    def _darken(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell(name, "is not reached by its peers")
        self._stage.disturbed[name] = self._loop.instant
        self._world.darken(name, self._stage.now_ms, max(1, int(each.lasts_s * 1000)))

    def _rotate(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.rotate(name)
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _restart(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell(name, "restarts")
        self._world.restart(name, self._stage.now_ms)

    def _forget(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell(name, "forgets its tasks")
        self._stage.air.forget(self._world.appliances[name])

    def _expire(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell(name, "forgets its sessions")
        self._world.appliances[name].sessions.drop_all()

    def _change_password(self, each: Befallen) -> None:
        name = self._appliance(each)
        appliance = self._world.appliances[name]
        password = f"another secret of {name}, {self._stage.rng.random()}"
        appliance.identity = replace(appliance.identity, password=password)
        self._stage.trace.tell(name, "has another password")
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _move(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.move(name)
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _readdress(self, each: Befallen) -> None:
        name = self._appliance(each)
        appliance = self._world.appliances[name]
        url = f"https://{name}.moved-at-{int(self._loop.instant * 1000)}.test"
        appliance.identity = replace(appliance.identity, management_url=url)
        self._stage.trace.tell(name, f"is called at {url}")
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _rotate_management(self, each: Befallen) -> None:
        name = self._appliance(each)
        appliance = self._world.appliances[name]
        if appliance.thumbprint == appliance.api_thumbprint:
            self._stage.rotate(name)
            changed = appliance.api_thumbprint
        else:
            changed = thumbprint(self._stage.rng)
        self._world.rotate(name, "management", changed, self._stage.now_ms)
        self._stage.trace.tell(name, "presents another certificate to whoever manages it")
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _change_user(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.sso_users ^= {name}
        self._register_if_known(name)

    def _mistype_password(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._register_if_known(name, "a wrong one")
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _register_if_known(self, name: str, password: str | None = None) -> None:
        if ApplianceName(name) in self._stage.database.tables.registrations:
            self._stage.register(name, password)

    def _remove(self, each: Befallen) -> None:
        name = self._appliance(each)
        self._stage.trace.tell("operator", f"removes {name}")
        self._stage.database.tables.remove(ApplianceName(name))
        self._later(each.lasts_s, lambda: self._stage.register(name))

    def _act_by_hand(self, each: Befallen) -> None:
        wanted = self._stage.schedule.wanted
        about = wanted[each.whom % len(wanted)]
        couple = [self._stage.names[about.one], self._stage.names[about.other]]
        holder, peer = couple if each.other % 2 else couple[::-1]
        self._stage.call_by_hand(holder, peer, pairs=each.other % 4 < 2)

    def _set_clock(self, each: Befallen) -> None:
        self._stage.set_clock(each.lasts_s if each.other % 2 else -each.lasts_s)
