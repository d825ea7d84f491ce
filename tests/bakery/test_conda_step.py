"""The script of a conda step, run in bash: a channel on loopback, rattler itself, and the test's folders for the machine's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bakery.recipe.recipe import load
from bakery.script.render import render
from bakery.script.resolve import resolve
from tests.conda_channel import publish, served
from tests.machine_code import TEMPLATES

pytestmark = pytest.mark.program

UV = f"""#!/bin/sh
for last; do :; done
[ "$1" = venv ] || exit 0
mkdir -p "$last/bin"
printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' >"$last/bin/python"
chmod +x "$last/bin/python"
"""
"""In place of uv, which would download rattler: this Python has it."""


@dataclass(frozen=True)
class Builder:
    """A builder whose folders are in `folder`."""

    folder: Path
    channel: Path
    url: str

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def step(self, *, default: bool = True) -> str:
        """Return the script of the step, from a lock that is made now."""
        path = self.folder / "lab.toml"
        conda = f'{{ packages = ["lab-tool"], channels = ["{self.url}"], default = {json.dumps(default)} }}'
        path.write_text(f'name = "lab"\n[[steps]]\nname = "env"\nconda = {conda}\n')
        recipe = load(path)
        text = render(recipe, resolve(recipe, self.folder / "resolved", refresh=True)).parts[1].text
        text = re.sub(r"/(opt/conda|usr/local/share/jupyter|etc/jupyter)", rf"{self.root}/\1", text)
        return text.replace("--owner=notebook --group=notebook ", "")

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run the script of a step."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "uv").write_text(UV)
        (programs / "uv").chmod(0o755)
        lib = (TEMPLATES / "frame/lib.sh.j2").read_text()
        fetch = lib[lib.index("fetch_file() {") : lib.index("unpack() {")]
        head = f'set -o errexit -o nounset -o pipefail\nretry() {{ "$@"; }}\nas_notebook() {{ "$@"; }}\n{fetch}'
        environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "BAKEHOUSE_HOST": "127.0.0.1",
        }
        return subprocess.run(["bash", "-c", head + text], env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """Give a builder, and a channel that it reaches under another name than this computer."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    channel = tmp_path / "channel"
    tool = {
        "bin/lab-tool": "#!/bin/sh\necho /placeholder\n",
        "bin/.lab-tool-post-link.sh": '#!/bin/sh\necho done >"$PREFIX/linked"\n',
    }
    publish(channel, "lab-tool", "1.0", subdir="linux-64", depends=["lab-kernel"], files=tool, has_prefix=["bin/lab-tool"])
    kernel = '{"argv": ["/placeholder/bin/python"], "display_name": "Lab"}'
    path = "share/jupyter/kernels/lab/kernel.json"
    publish(channel, "lab-kernel", "1.0", files={path: kernel}, has_prefix=[path])
    with served(channel) as url:
        yield Builder(tmp_path, channel, url.replace("127.0.0.1", "localhost"))


def test_packages_are_installed_with_their_prefix_and_scripts(builder: Builder) -> None:
    done = builder.run(builder.step())
    assert done.returncode == 0, done.stderr
    prefix = builder.root / "opt/conda"
    assert subprocess.run([prefix / "bin/lab-tool"], capture_output=True, text=True).stdout == f"{prefix}\n"
    assert (prefix / "linked").read_text() == "done\n"
    assert (
        json.loads((prefix / "conda-meta/lab-tool-1.0-0.json").read_text())["url"]
        == f"{builder.url}/linux-64/lab-tool-1.0-0.tar.bz2"
    )
    assert not (builder.root / "opt/conda-build").exists()


@pytest.mark.parametrize("default", [True, False])
def test_the_kernel_is_shown_and_the_default_if_the_recipe_says_so(builder: Builder, default: bool) -> None:
    assert builder.run(builder.step(default=default)).returncode == 0
    kernel = json.loads((builder.root / "usr/local/share/jupyter/kernels/conda-lab/kernel.json").read_text())
    assert (kernel["argv"], kernel["display_name"]) == ([f"{builder.root}/opt/conda/bin/python"], "Lab (conda)")
    settings = builder.root / "etc/jupyter/jupyter_server_config.json"
    assert settings.exists() == default
    assert not default or json.loads(settings.read_text()) == {"MultiKernelManager": {"default_kernel_name": "conda-lab"}}


def test_an_environment_without_a_kernel_cannot_have_the_default(builder: Builder) -> None:
    publish(builder.channel, "lab-tool", "2.0")
    done = builder.run(builder.step())
    assert done.returncode != 0
    assert "no conda package has a kernel: add one such as ipykernel" in done.stderr


def test_a_file_that_differs_from_the_lock_is_not_installed(builder: Builder) -> None:
    text = builder.step()
    publish(builder.channel, "lab-tool", "1.0", subdir="linux-64", files={"bin/lab-tool": "another"})
    done = builder.run(text)
    assert done.returncode == 1
    assert re.search(r"lab-tool-1.0-0.tar.bz2: SHA-256 is [0-9a-f]{64}, but must be [0-9a-f]{64}\n", done.stdout)
    assert "cannot get a conda package as it was resolved; if its channel has replaced it: ./inv bake --refresh" in done.stdout
    assert not (builder.root / "opt/conda/conda-meta").exists()
