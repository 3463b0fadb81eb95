"""What is shipped: the locks, the wheel, the image and the compose file name only what exists."""

import fnmatch
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.cli import app
from service.settings import from_environment

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def pinned(lock: str) -> dict[str, str]:
    """Name and version of each requirement in a lock file."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything_by_hash_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text()
    requirements = re.split(r"\n(?=\S)", text.strip())
    assert all("==" in each and "--hash=sha256:" in each for each in requirements)
    assert not re.search(r"://|--(?:index|extra|find|trusted)|@ ", text)


def test_every_dependency_is_locked_and_all_locks_agree() -> None:
    runtime, dev, bench = (pinned(lock) for lock in LOCKS)
    named = [re.split(r"[\[<>=]", each)[0].lower() for each in PROJECT["project"]["dependencies"]]
    assert set(named) <= set(runtime)
    assert runtime.items() <= dev.items()
    assert runtime.items() <= bench.items()


def test_whom_we_compare_ourselves_with_nobody_else_installs() -> None:
    runtime, dev, bench = (pinned(lock) for lock in LOCKS)
    assert {"pgqueuer", "procrastinate", "dbos"} <= set(bench) - set(runtime) - set(dev)


def said(*command: str) -> str:
    """What a process says that ends well."""
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return done.stdout.decode()


def test_a_command_that_is_a_client_does_not_wait_for_the_service_to_be_imported() -> None:
    clients = "appliances, batch, pair"
    script = f"import sys; from service.cli import {clients}; print(*sys.modules)"
    assert not {"sqlalchemy", "alembic", "simulator"} & set(said("-c", script).split())


@pytest.mark.parametrize("asked", [(), ("--help",)])
def test_help_tells_of_every_command_what_it_does(asked: tuple[str, ...]) -> None:
    helped = said("-m", "service", *asked)
    for name in app:
        if not name.startswith("-"):
            (told,) = re.findall(rf"^│ {name} +(\w.*?) +│$", helped, re.MULTILINE)
            assert app[name].help.startswith(told[:30]), helped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that a user would install."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_all_that_is_read_at_run_time(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {"service/openapi.yaml", "service/migrations/env.py", "service/py.typed"} <= names
    for place in ("service", "simulator", "migrations"):
        for path in (ROOT / place).rglob("*"):
            if path.is_file() and path.suffix in {".py", ".sql", ".json", ".mako"}:
                name = str(path.relative_to(ROOT))
                assert name.replace("migrations/", "service/migrations/", 1) in names or (
                    name in names
                )


def test_an_installed_wheel_finds_its_contract_and_its_migrations(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path)
    script = (
        "from service.resources import resource; from service.store.migrate import configuration;"
        "from alembic.script import ScriptDirectory;"
        "print(resource('openapi.yaml'), resource('migrations'));"
        "print(ScriptDirectory.from_config(configuration()).get_current_head())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    places, head = ended.stdout.splitlines()
    assert all(place.startswith(str(tmp_path / "service")) for place in places.split())
    assert head != "None"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(verb, rest.strip()) for verb, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_copies_what_exists_and_what_is_not_ignored() -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for verb, rest in instructions():
        if verb != "COPY" or "--from" in rest:
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source.rstrip("/"), pattern) for pattern in allowed), source


def test_the_image_runs_the_command_as_somebody_without_rights() -> None:
    verbs = dict(instructions())
    assert verbs["USER"] not in {"root", "0"}
    assert yaml.safe_load(verbs["ENTRYPOINT"]) == list(PROJECT["project"]["scripts"])
    parsed(yaml.safe_load(verbs["CMD"]))
    assert "HEALTHCHECK" in verbs
    environment = dict(each.partition("=")[::2] for each in shlex.split(verbs["ENV"]))
    known = {name: value for name, value in environment.items() if name.startswith("SITEPAIR")}
    assert from_environment(known).listen == ("0.0.0.0", 8080)  # noqa: S104 - inside a container


def parsed(arguments: list[str]) -> None:
    """Refuse arguments that the command line does not take."""
    app.parse_args(arguments, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", [name for name in COMPOSE["services"] if name != "postgres"])
def test_a_service_of_the_compose_file_is_one_that_this_image_can_run(name: str) -> None:
    service = COMPOSE["services"][name]
    parsed(service["command"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    for other in service["depends_on"]:
        assert other in COMPOSE["services"]
    given = (ROOT / "deploy" / "example.env").read_text()
    for variable, value in service["environment"].items():
        for needed in re.findall(r"\$\{(\w+)", value):
            assert f"{needed}=" in given
        accepts(variable)
    assert (ROOT / "deploy" / service["build"] / "Dockerfile").exists()


def accepts(variable: str) -> None:
    """Refuse a variable that no setting is named by."""
    from_environment({variable: ""})
