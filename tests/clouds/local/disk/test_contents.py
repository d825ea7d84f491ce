"""The files of a disk, read from outside."""

import subprocess

import pytest

from clouds.local.base.esp import ROOT_START_MB
from clouds.local.disk.contents import DiskContents, Entry, listings
from clouds.local.host.programs import missing_packages

PRINTED = """debugfs: ls -p <2>
/2/040755/0/0/.//
/2/040755/0/0/..//
/12/120777/0/0/bin/7/
/13/040755/0/0/etc//

debugfs: ls -p <13>
/13/040755/0/0/.//
/2/040755/0/0/..//
/14/100644/0/0/a file/11/

debugfs: ls -p <15>
"""


def test_listings_come_in_the_order_of_the_folders() -> None:
    assert list(listings(PRINTED)) == [
        [Entry(12, 0o120777, "bin", 7), Entry(13, 0o040755, "etc", 0)],
        [Entry(14, 0o100644, "a file", 11)],
        [],
    ]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> DiskContents:
    """Give a disk with a few odd files."""
    if missing_packages():
        pytest.skip("the programs of the local cloud are not installed")
    folder = tmp_path_factory.mktemp("disk") / '-it\'s "q"'
    tree = folder / "tree"
    (tree / "etc/deep er/x").mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0\n")
    (tree / 'etc/deep er/x/it\'s "odd" é').write_text("odd")
    (tree / "empty").touch()
    (tree / "large").write_bytes(b"0123456789" * 100_000)
    (tree / "link").symlink_to("etc/passwd")
    raw, disk = folder / "disk.raw", folder / "disk.qcow2"
    with raw.open("wb") as file:
        file.truncate((ROOT_START_MB + 16) * 2**20)
    offset = f"offset={ROOT_START_MB * 2**20}"
    subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-E", offset, "-d", tree, raw, "16m"], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    return DiskContents(disk, folder)


def test_every_regular_file_is_listed_with_its_size(contents: DiskContents) -> None:
    assert dict(contents.list()) == {
        "/etc/passwd": 11,
        '/etc/deep er/x/it\'s "odd" é': 3,
        "/empty": 0,
        "/large": 1_000_000,
    }


def test_files_are_read_up_to_the_limit_and_what_is_absent_is_left_out(contents: DiskContents) -> None:
    paths = ["/etc/passwd", '/etc/deep er/x/it\'s "odd" é', "/empty", "/large", "/link", "/etc", "/nosuch"]
    assert contents.read(paths, 15) == {
        "/etc/passwd": b"root:x:0:0\n",
        '/etc/deep er/x/it\'s "odd" é': b"odd",
        "/empty": b"",
        "/large": b"012345678901234",
    }


def test_nothing_is_read_of_nothing(contents: DiskContents) -> None:
    assert contents.read([]) == {}
