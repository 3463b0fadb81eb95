"""A file is written anew as a whole, or stays as it was."""

import os
import stat
from pathlib import Path

import pytest

from service.cli.rewriting import is_replaceable, refuse_unwritable, rewritten


def test_what_was_there_is_there_until_all_is_written(tmp_path: Path) -> None:
    file, link = tmp_path / "again.csv", tmp_path / "link.csv"
    file.write_text("before")
    file.chmod(0o640)
    link.symlink_to(file)
    with rewritten(link) as out:
        out.write("after")
        out.flush()
        assert file.read_text() == "before"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("after", 0o640)
    assert sorted(tmp_path.iterdir()) == [file, link]
    assert link.is_symlink()


def test_what_cannot_be_written_to_its_end_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "again.csv"
    file.write_text("before")

    def write_half() -> None:
        with rewritten(file) as out:
            out.write("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert file.read_text() == "before"
    assert [*tmp_path.iterdir()] == [file]


def test_what_is_no_file_is_written_to_as_it_is() -> None:
    """A terminal of our own: what would take the place of a device must not do so to /dev/null."""
    reader, writer = os.openpty()
    device = Path(os.ttyname(writer))
    refuse_unwritable(device)
    with rewritten(device) as out:
        out.write("heard")
    assert os.read(reader, 10) == b"heard"
    assert device.is_char_device()
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_what_is_open_already_is_written_on(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Here it leads to a file."""
    descriptor = {"stdout": 1, "stderr": 2}[name]
    os.write(descriptor, b"before, ")
    with rewritten(Path("/dev", name)) as out:
        out.write("again, ")
    os.write(descriptor, b"after")
    assert "".join(capfd.readouterr()) == "before, again, after"


def test_a_place_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        refuse_unwritable(tmp_path / "nowhere" / "again.csv")
    refuse_unwritable(tmp_path / "again.csv")
    assert [*tmp_path.iterdir()] == []


def test_a_new_file_is_made_when_there_is_something_to_write(tmp_path: Path) -> None:
    new = tmp_path / "again.csv"
    assert is_replaceable(new)
    with rewritten(new) as out:
        out.write("after")
    assert new.read_text() == "after"
