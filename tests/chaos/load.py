"""Clients that ask for pairings and do not give in until they hold a 202, via either API."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.chaos.appliances import Couple, Json
from tests.chaos.errands import Errand, Step
from tests.support.contract import ContractBroken, check_response

_ASK_S = aiohttp.ClientTimeout(total=5)
_WAIT_S = 10
_WAITING_S = aiohttp.ClientTimeout(total=_WAIT_S + 5)
_AGAIN_S = 0.2
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, ConnectionError)


@dataclass(slots=True)
class Job:
    """A pairing that was promised: a 202 was seen. `name` is its operationID and its key."""

    id: str
    name: str
    couple: Couple
    operation: str = "pair"
    on_failure: str = "rollback"
    was_retried: bool = False
    final: Json = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether the service says that it is."""
        return bool(self.final.get("endTime", -1) != -1)


class Clients:
    """Everybody who asks. `complaints` are answers that should never have been given."""

    def __init__(
        self, token: str, apis: Callable[[], Sequence[str]], session: aiohttp.ClientSession
    ) -> None:
        """`apis` are those that can be reached at the moment."""
        self.jobs: list[Job] = []
        self.complaints: list[str] = []
        self.answers: Counter[str] = Counter()
        self._headers = {"Authorization": f"Bearer {token}"}
        self._apis = apis
        self._session = session

    async def run(self, errands: Sequence[Errand], name: str) -> None:
        """Run all errands to the end of what they started. Bound the time of this."""
        async with asyncio.TaskGroup() as tasks:
            for number, errand in enumerate(errands, start=1):
                tasks.create_task(self._run_one(errand, f"{name}-{number}"))

    async def call(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Json]:
        """The answer to a request that is repeated until there is one below 500."""
        patience = _WAITING_S if "waitSeconds" in path else _ASK_S
        while True:
            for url in self._shuffled_apis():
                try:
                    status, content = await self._call(method, url, path, body, headers, patience)
                except _NO_ANSWER as trouble:
                    self.answers[type(trouble).__name__] += 1
                    continue
                self.answers[f"{method} {status}"] += 1
                if status < 500:
                    return status, content
            await asyncio.sleep(_AGAIN_S)

    async def _run_one(self, errand: Errand, name: str) -> None:
        await asyncio.sleep(errand.at_s)
        for number, step in enumerate(errand.steps, start=1):
            job = await self._ask(errand, step, f"{name}.{number}")
            if job is None:
                return
            if step.cancel_after_s is not None:
                await asyncio.sleep(step.cancel_after_s)
                await self._say(job, "cancel")
            await self._over(job)
            if step.is_retried and job.final["state"] != "SUCCEEDED":
                await self._say(job, "retry")
                job.was_retried = True
                await self._over(job)

    async def _ask(self, errand: Errand, step: Step, name: str) -> Job | None:
        body: Json = {"appliances": list(errand.couple), "timeoutSeconds": errand.timeout_s}
        if step.operation != "pair":
            body["operation"] = step.operation
        if step.on_failure != "rollback":
            body["onFailure"] = step.on_failure
        headers = {"Idempotency-Key": name, "operationID": name}
        status, content = await self.call("POST", "/v1/pairings", body, **headers)
        if status != 202:
            self.complaints.append(f"{name} {errand.couple}: refused with {status}: {content}")
            return None
        job = Job(
            content["id"], name, errand.couple, step.operation, step.on_failure, final=content
        )
        self.jobs.append(job)
        return job

    async def _say(self, job: Job, word: str) -> None:
        """Cancel the job, or retry it. That it is too late for the one, or not yet or no longer
        over for the other, is an answer too: an earlier one may have been lost."""
        path = f"/v1/pairings/{job.id}"
        status, content = await self.call("POST", f"{path}/{word}", operationID=job.name)
        if status == 409:
            status, content = await self.call("GET", path)
        if status >= 400:
            self.complaints.append(f"{word} {job.name} {job.id}: {status}: {content}")
            return
        job.final = content

    async def _over(self, job: Job) -> None:
        """Return when the service says that the job is over."""
        while not job.is_over:
            status, content = await self.call("GET", f"/v1/pairings/{job.id}?waitSeconds={_WAIT_S}")
            if status != 200:
                self.complaints.append(f"{job.name} {job.id}: {status}: {content}")
                return
            job.final = content

    async def _call(
        self,
        method: str,
        url: str,
        path: str,
        body: object,
        headers: dict[str, str],
        patience: aiohttp.ClientTimeout,
    ) -> tuple[int, Json]:
        async with self._session.request(
            method, url + path, json=body, headers={**self._headers, **headers}, timeout=patience
        ) as response:
            content = await response.read()
        try:
            check_response(
                method, path.partition("?")[0], response.status, response.headers, content
            )
        except ContractBroken as broken:
            self.complaints.append(str(broken))
        return response.status, json.loads(content) if content else {}

    def _shuffled_apis(self) -> list[str]:
        urls = list(self._apis())
        # Which one is asked first is nothing that a seed would replay: who answers is up to time.
        random.shuffle(urls)
        return urls
