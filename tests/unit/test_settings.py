"""Configuration is refused early, all of it at once, and never shows a secret."""

import base64
import re
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from service.settings import InvalidSettings, Settings, from_environment, parse_keys

KEY = base64.b64encode(bytes(range(32))).decode()
README = Path(__file__).parents[2] / "README.md"


def faults_of(**environment: str) -> list[str]:
    with pytest.raises(InvalidSettings) as raised:
        from_environment({f"SITEPAIR_{name}": value for name, value in environment.items()})
    return raised.value.faults


def test_nothing_set_means_the_defaults() -> None:
    settings = from_environment({"LANG": "C"})
    assert settings == Settings(data_dir=settings.data_dir)
    assert settings.data_dir.name == "sitepair"
    assert settings.listen == ("127.0.0.1", 8080)


def test_every_variable_is_read(tmp_path: Path) -> None:
    settings = from_environment(
        {
            "SITEPAIR_DATA_DIR": str(tmp_path),
            "SITEPAIR_LISTEN": "[::1]:0",
            "SITEPAIR_METRICS_LISTEN": "0.0.0.0:9090",
            "SITEPAIR_DATABASE_URL": "postgresql://u:p@h/d",
            "SITEPAIR_ADMIN_TOKEN": "a-token-of-16-or-more",
            "SITEPAIR_SECRET_KEY": f"{KEY},{KEY}",
            "SITEPAIR_EGRESS_ALLOW": "10.0.0.0/8, fd00::/8",
            "SITEPAIR_EGRESS_DENY": "10.9.0.0/16",
            "SITEPAIR_LOG_LEVEL": "debug",
            "SITEPAIR_VERIFY_TIMEOUT": "12.5",
        }
    )
    assert settings == Settings(
        data_dir=tmp_path,
        listen=("::1", 0),
        metrics_listen=("0.0.0.0", 9090),  # noqa: S104 - it is only read
        database_url="postgresql://u:p@h/d",
        admin_token="a-token-of-16-or-more",
        secret_keys=(bytes(range(32)), bytes(range(32))),
        egress_allow=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        egress_deny=(ip_network("10.9.0.0/16"),),
        log_level="DEBUG",
        verify_timeout_s=12.5,
    )
    assert all(getattr(settings, field.name) != field.default for field in fields(settings)), (
        "a variable of each setting is in this test"
    )


def test_all_faults_are_told_at_once_with_name_value_and_what_would_do() -> None:
    faults = faults_of(
        LISTEN="8080",
        DATABASE_URL="mysql://root:hunter2@h/d",
        ADMIN_TOKEN="short",
        SECRET_KEY="AAAA",
        EGRESS_ALLOW="10.0.0.0/33",
        LOG_LEVEL="LOUD",
        VERIFY_TIMEOUT="nan",
        DATABSE_URL="postgresql://h/d",
    )
    assert len(faults) == 8
    text = "\n".join(faults)
    assert "SITEPAIR_LISTEN='8080': expected HOST:PORT" in text
    assert "SITEPAIR_DATABSE_URL: no such setting; did you mean SITEPAIR_DATABASE_URL?" in text
    for secret in ("hunter2", "short", "AAAA"):
        assert f"={secret}" not in text
        assert f"'{secret}'" not in text


def test_what_a_database_cannot_be_reached_by_is_told_beside_all_else() -> None:
    faults = faults_of(DATABASE_URL="postgresql://u:sec/ret@h/d?foo=bar", LOG_LEVEL="LOUD")
    assert [fault.partition(":")[0] for fault in faults] == [
        "SITEPAIR_DATABASE_URL=(not shown)",
        "SITEPAIR_LOG_LEVEL='LOUD'",
    ]
    assert "ret" not in faults[0].replace("percent", "")


@pytest.mark.parametrize(
    "listen",
    [
        *["", "localhost", ":8080", "h:99999", "h:80/path", "h:x", "h:80?x=1", "h:80?", "h:80#y"],
        *["user:pw@h:80", "@h:80", "h\t:80"],
    ],
    ids=str,
)
def test_an_address_that_is_not_just_host_and_port_is_refused(listen: str) -> None:
    if listen:
        assert faults_of(LISTEN=listen)
    else:
        assert from_environment({"SITEPAIR_LISTEN": ""}).listen == ("127.0.0.1", 8080)


@pytest.mark.parametrize("keys", ["", ",", "not base64!", base64.b64encode(b"short").decode()])
def test_keys_that_are_none_are_refused(keys: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_keys(keys)


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "expected a directory" in faults_of(DATA_DIR=str(tmp_path / "file"))[0]


@pytest.mark.parametrize(
    "directory", ["~nobody-of-this-name/x", "/" + "x" * 300, "file/below", "loop"]
)
def test_a_data_directory_that_cannot_be_is_refused(directory: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    path = directory if directory[0] in "~/" else str(tmp_path / directory)
    assert "no path of a directory" in faults_of(DATA_DIR=path)[0]


def test_secrets_stay_out_of_what_is_printed_of_settings() -> None:
    settings = Settings(
        data_dir=Path(),
        database_url="postgresql://u:hunter2@h/d",
        admin_token="hunter2",
        secret_keys=(b"hunter2",),
    )
    assert "hunter2" not in repr(settings)


def test_the_readme_tables_every_variable() -> None:
    tabled = set(re.findall(r"^\| `(SITEPAIR_\w+)`", README.read_text(), re.MULTILINE))
    source = (Path(__file__).parents[2] / "service" / "settings.py").read_text()
    read = {f"SITEPAIR_{name}" for name in re.findall(r'reader\.read\("(\w+)"', source)}
    assert tabled == read
