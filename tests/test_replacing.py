"""Files that are replaced as a whole: watermarks, histories, the times of deliveries."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from recall_async import ConfigurationError, FileHistory
from recall_async.replacing import replace_file
from recall_async.sync.watermarks import FileWatermarks
from recall_async.webhooks.latest import FileLatest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    """The other users of a shared file cannot read it any more once it was replaced."""
    path = tmp_path / "watermarks.json"
    path.write_bytes(b"{}")
    path.chmod(mode)
    replace_file(path, b"[]")
    assert path.read_bytes() == b"[]"
    assert path.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    """A file that a group shares is unreadable for all but the user who was first."""
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "new", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_keeps_its_target(tmp_path: Path, exists: bool) -> None:
    """A link to a volume becomes a file of the container, and all that is written is lost with it."""
    (tmp_path / "volume").mkdir()
    target, link = tmp_path / "volume" / "watermarks.json", tmp_path / "watermarks.json"
    if exists:
        target.write_bytes(b"{}")
    link.symlink_to(target)
    replace_file(link, b"[]")
    assert link.is_symlink()
    assert target.read_bytes() == b"[]"
    assert [each.name for each in target.parent.iterdir()] == ["watermarks.json"]


def test_a_failure_leaves_the_former_content(tmp_path: Path) -> None:
    """A folder that cannot be written, or a folder in place of the file, loses the content or leaves pieces behind."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        replace_file(tmp_path / "folder", b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("kind", [FileHistory, FileWatermarks, FileLatest])
def test_only_files_are_replaced(tmp_path: Path, kind: type) -> None:
    """A device is read without end, a pipe waits for a writer, and both are replaced by a file: /dev/null, too."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match="must be a regular file"):
            kind(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "pipe"]
