"""Sources of packages in a bake: the recipe's own are read, Debian's own servers are the mirrors of the computer that bakes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bakery.recipe.recipe import load
from bakery.script.render import Part, Script, frame, render
from bakery.script.resolve import Resolution
from clouds.driver import Base
from clouds.local.base.bootstrap import in_base
from clouds.local.base.definition import Definition
from clouds.local.base.host_environment import HostSettings, build_files
from clouds.mirrors import Mirrors
from tests.bash_guest import SYSTEM_PATH, Guest, new_guest

pytestmark = pytest.mark.program

DEBIAN = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie trixie-updates\nComponents: main\n"
NODE = "deb [trusted=yes] https://node.example/node_20.x nodistro main\n"
APT_GET = """#!/bin/bash
for word; do
  if [[ $word == update ]]; then
    echo "apt-get update" >>"$CALLS"
    mkdir -p "$ROOT/var/lib/apt/lists"
    touch "$ROOT/var/lib/apt/lists/x_InRelease"
    cat "$ROOT"/run/bakehouse/build/sources.list.d/* >"$ROOT/read"
  fi
done
echo "$*" >"$ROOT/last"
"""


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    """Return a builder with the settings of a computer whose mirror is m.example."""
    made = new_guest(tmp_path)
    made.write("bin/apt-get", APT_GET.replace("$ROOT", str(tmp_path)))
    (tmp_path / "bin/apt-get").chmod(0o755)
    made.write("etc/apt/sources.list.d/debian.sources", DEBIAN)
    made.write("etc/os-release", "NAME=Debian\nID=debian\nVERSION_CODENAME=trixie\n")
    settings(made)
    return made


def settings(guest: Guest, mirror: str = "http://m.example/debian") -> None:
    """Give a builder the settings of the computer that bakes."""
    for name, content in build_files(HostSettings(mirrors=Mirrors(mirror, "http://m.example/debian-security"))).items():
        guest.write(f"run/bakehouse/build/{name}", SYSTEM_PATH.sub(str(guest.root), content.decode()))


def bake(*texts: str) -> Script:
    return frame("a test", [Part(f"s{number}", text + "\n") for number, text in enumerate(texts)], is_bake=True)


def again(guest: Guest, *texts: str) -> int:
    """Run steps in another bake of the same boot; return how often the package lists have been fetched in all."""
    assert guest.run(bake(*texts)).done, guest.read("run/bakehouse/bake.log")
    shutil.rmtree(guest.root / "var/lib/bakehouse")
    return guest.read("calls").count("apt-get update")


def test_debians_own_servers_are_the_mirrors_and_other_sources_stay(guest: Guest) -> None:
    guest.write("etc/apt/sources.list", "deb https://deb.debian.org/debian trixie contrib\n")
    guest.write("etc/apt/sources.list.d/node.list", NODE)
    again(guest, "apt_install node")
    read = guest.read("read")
    assert "URIs: http://m.example/debian\n" in read
    assert "deb http://m.example/debian trixie contrib\n" in read
    assert NODE in read
    assert "deb.debian.org" not in read
    assert guest.read("etc/apt/sources.list.d/debian.sources") == DEBIAN


@pytest.mark.parametrize("name", ["sources.list", "sources.list.d/sources.list", "sources.list.d/new.sources"])
def test_source_that_a_step_writes_is_read_by_a_later_apt_step(guest: Guest, name: str) -> None:
    guest.write("etc/apt/sources.list", "deb https://one.example/x y z\n")
    fetched = again(guest, "apt_install git", f"cat >>/etc/apt/{name} <<'X'\n{NODE}X", "apt_install node", "apt_install more")
    assert fetched == 2
    assert NODE in guest.read("read")
    assert "one.example" in guest.read("read")


def test_lists_are_fetched_only_when_sources_have_changed(guest: Guest) -> None:
    change = "sed --in-place 's/^Components:.*/Components: main contrib/' /etc/apt/sources.list.d/debian.sources"
    assert again(guest, "apt_install git", "apt_install vim") == 1
    assert again(guest, change, "apt_install x") == 2
    assert "Components: main contrib" in guest.read("read")
    assert again(guest, "rm /etc/apt/sources.list.d/debian.sources", "apt_install x") == 3
    settings(guest, "http://other.example/debian")
    guest.write("etc/apt/sources.list.d/debian.sources", DEBIAN)
    assert again(guest, "apt_install x") == 4
    assert again(guest, "apt_install x") == 4


def test_lists_that_a_step_has_removed_are_fetched_again(guest: Guest) -> None:
    assert again(guest, "apt_install git", "rm --recursive /var/lib/apt/lists", "apt_install vim") == 2


def put_in_base(guest: Guest, *packages: str, installed: str = "installed") -> None:
    """Say that the base was built with packages, of the sources that it has."""
    definition = Definition(Base("trixie", "amd64", packages), guest.root)
    guest.write("etc/apt/sources.list.d/debian.sources", definition.sources)
    guest.write("usr/lib/bakehouse/in-base", in_base(definition))
    guest.write("bin/dpkg-query", f'#!/bin/bash\nfor _ in "${{@:3}}"; do echo {installed}; done\n')
    (guest.root / "bin/dpkg-query").chmod(0o755)


def test_packages_that_the_base_was_built_with_are_not_installed_again(guest: Guest) -> None:
    put_in_base(guest, "g++", "git", "vim")
    assert again(guest, "apt_install vim git", "apt_install g++") == 0
    assert "in the base already: vim git\n" in guest.read("run/bakehouse/bake.log")


@pytest.mark.parametrize("package", ["zip", "it", "git/trixie-backports"])
def test_packages_that_the_base_was_not_built_with_are_installed(guest: Guest, package: str) -> None:
    put_in_base(guest, "g++", "git", "vim")
    assert again(guest, f"apt_install git {package}") == 1
    assert guest.read("last").endswith(f"install --no-install-recommends git {package}\n")


@pytest.mark.parametrize("name", ["sources.list.d/new.sources", "preferences.d/pin"])
def test_packages_of_the_base_are_installed_again_where_apt_may_find_others(guest: Guest, name: str) -> None:
    put_in_base(guest, "git")
    assert again(guest, f"mkdir -p /etc/apt/preferences.d; echo '# new' >/etc/apt/{name}", "apt_install git") == 1


def test_package_of_the_base_that_a_step_has_removed_is_installed_again(guest: Guest) -> None:
    put_in_base(guest, "git", installed="config-files")
    assert again(guest, "apt_install git") == 1


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_installer_that_adds_a_source_and_calls_apt_reads_it(guest: Guest, shell: str) -> None:
    again(guest, f"{shell} <<'X'\necho '{NODE.strip()}' >/etc/apt/sources.list.d/node.list\napt-get update\nX")
    assert NODE in guest.read("read")


def test_without_mirrors_of_the_host_apt_reads_the_sources_as_they_are(guest: Guest) -> None:
    shutil.rmtree(guest.root / "run/bakehouse/build")
    guest.write("bin/apt-get", APT_GET.replace("$ROOT", str(guest.root)).replace("cat ", ": "))
    assert again(guest, "apt_install git", "apt_install vim") == 1
    assert again(guest, f"echo '{NODE.strip()}' >/etc/apt/sources.list.d/node.list", "apt_install node") == 2
    assert not (guest.root / "run/bakehouse/build").exists()


def test_package_of_backports_adds_them_unless_they_are_there(guest: Guest) -> None:
    assert again(guest, "apt_install git", "apt_install tmux/trixie-backports") == 2
    assert "Suites: trixie-backports\nComponents: main\n" in guest.read("read")
    assert guest.read("etc/apt/sources.list.d/trixie-backports.sources").startswith(
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie-backports\n"
    )
    (guest.root / "etc/apt/sources.list.d/trixie-backports.sources").unlink()
    guest.write("etc/apt/sources.list", "deb http://deb.debian.org/debian trixie-backports main\n")
    again(guest, "NAME=mine\napt_install tmux/trixie-backports\n[[ $NAME == mine ]]")
    assert not (guest.root / "etc/apt/sources.list.d/trixie-backports.sources").exists()


def test_backports_that_are_not_enabled_are_added(guest: Guest) -> None:
    stanza = DEBIAN.replace("trixie trixie-updates", "trixie-backports")
    guest.write("etc/apt/sources.list.d/debian.sources", f"{DEBIAN}\nEnabled: No\n{stanza}")
    again(guest, "apt_install tmux/trixie-backports")
    assert (guest.root / "etc/apt/sources.list.d/trixie-backports.sources").exists()
    (guest.root / "etc/apt/sources.list.d/trixie-backports.sources").unlink()
    guest.write("etc/apt/sources.list.d/debian.sources", f"{DEBIAN}\nEnabled: yes\n{stanza}")
    again(guest, "apt_install tmux/trixie-backports")
    assert not (guest.root / "etc/apt/sources.list.d/trixie-backports.sources").exists()


@pytest.mark.parametrize("package", ["git", "git=1:2.47", "tmux/sid", "tmux/trixie-backports-sloppy"])
def test_other_packages_add_no_source(guest: Guest, package: str) -> None:
    again(guest, f"apt_install {package}")
    assert [path.name for path in (guest.root / "etc/apt/sources.list.d").iterdir()] == ["debian.sources"]


def test_mirror_with_a_password_is_nowhere_but_in_the_settings_of_the_build(guest: Guest) -> None:
    settings(guest, "http://me:hunter2@m.example/debian")
    again(guest, "apt_install git")
    (guest.root / "read").unlink()  # the test's own
    holding = {str(path.relative_to(guest.root)) for path in guest.root.rglob("*") if path.is_file() and "hunter2" in _text(path)}
    assert holding == {f"run/bakehouse/build/{name}" for name in ("mirrors.sed", "sources.list.d/debian.sources")}
    assert (guest.root / "run/bakehouse/build/sources.list.d/debian.sources").stat().st_mode & 0o077 == 0


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


STEP = """name = "mine"
[[steps]]
name = "tools"
apt = ["lab-tool"]
[[steps.apt_sources]]
name = "lab"
uri = "file:{repository}"
suite = "{suite}"
{components}
key = {{ file = "lab.key" }}
"""
needs_apt = pytest.mark.skipif(not (shutil.which("gpg") and os.access("/usr/bin/apt-get", os.X_OK)), reason="no apt-get or gpg")


@needs_apt
@pytest.mark.parametrize(("armored", "flat"), [(True, False), (False, True)])
def test_apt_itself_trusts_a_source_of_the_recipe_by_its_key_alone(guest: Guest, tmp_path: Path, armored: bool, flat: bool) -> None:
    keys = repository(tmp_path / "srv/lab", tmp_path / "gnupg", flat=flat)
    own_apt(guest)
    (tmp_path / "lab.key").write_bytes(keys[armored])
    where = {"suite": "./", "components": ""} if flat else {"suite": "stable", "components": 'components = ["main"]'}
    (tmp_path / "mine.toml").write_text(STEP.format(repository=tmp_path / "srv/lab", **where))
    [part] = [part for part in render(load(tmp_path / "mine.toml"), Resolution({})).parts if part.name == "tools"]
    assert guest.run(frame("a test", [part], is_bake=True)).done, guest.read("run/bakehouse/bake.log")
    assert "lab-tool" in guest.read("found")
    guest.write("etc/apt/keyrings/" + ("lab.asc" if armored else "lab.gpg"), "")
    again = bake("rm --recursive /var/lib/apt/lists", "apt_install lab-tool")
    guest.write("bin/sleep", "#!/bin/bash\n")
    shutil.rmtree(guest.root / "var/lib/bakehouse")
    assert guest.run(again).failure is not None


def own_apt(guest: Guest) -> None:
    """Let this computer's apt work below a guest's folder; what would be installed is only simulated."""
    (guest.root / "etc/apt/sources.list.d/debian.sources").unlink()
    for folder in ("var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial", "etc/apt/apt.conf.d"):
        (guest.root / folder).mkdir(parents=True)
    guest.write("var/lib/dpkg/status", "")
    conf = guest.read("run/bakehouse/build/apt.conf")
    own = {"Dir": guest.root, "Dir::State::status": guest.root / "var/lib/dpkg/status", "APT::Sandbox::User": "root"}
    guest.write("run/bakehouse/build/apt.conf", "".join(f'{key} "{value}";\n' for key, value in own.items()) + conf)
    command = f'/usr/bin/apt-get "$@" && if [[ " $* " == *" install "* ]]; then echo "$@" >{guest.root}/found; fi\n'
    simulated = f'[[ " $* " != *" install "* ]] || set -- --simulate "$@"\n{command}'
    guest.write("bin/apt-get", f"#!/bin/bash\n{simulated}")


def repository(folder: Path, keys: Path, *, flat: bool) -> tuple[bytes, bytes]:
    """Make a signed repository that lists the package lab-tool; return its key, binary and armored."""
    lists = folder if flat else folder / "dists/stable/main/binary-amd64"
    lists.mkdir(parents=True)
    keys.mkdir(mode=0o700)
    fields = {"Package": "lab-tool", "Version": "1", "Architecture": "all", "Maintainer": "x", "Description": "x", "Size": "1"}
    packages = "".join(f"{key}: {value}\n" for key, value in {**fields, "Filename": "x.deb", "SHA256": "0" * 64}.items())
    (lists / "Packages").write_text(packages)
    top = folder if flat else folder / "dists/stable"
    digest = subprocess.run(["sha256sum", lists / "Packages"], capture_output=True, text=True, check=True).stdout.split()[0]
    head = "Codename: stable\nSuite: stable\nArchitectures: amd64 all\nComponents: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\n"
    (top / "Release").write_text(f"{head}SHA256:\n {digest} {len(packages)} {(lists / 'Packages').relative_to(top)}\n")
    gpg = ["gpg", "--homedir", str(keys), "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"]
    subprocess.run([*gpg, "--quick-gen-key", "lab", "ed25519", "sign", "never"], check=True, timeout=120)
    subprocess.run([*gpg, "--clearsign", "--output", top / "InRelease", top / "Release"], check=True, timeout=120)
    exported = [subprocess.run([*gpg, *armor, "--export"], capture_output=True, check=True).stdout for armor in ((), ("--armor",))]
    subprocess.run(["gpgconf", "--homedir", str(keys), "--kill", "gpg-agent"], check=True, timeout=60)
    return exported[0], exported[1]
