"""A conda step in a real builder: packages of a channel on this computer, installed from the lock, imported in the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conda_channel import publish, served
from tests.vm.bakehouse import Bakehouse

pytestmark = pytest.mark.vm

RECIPE = """
name = "conda-lab"
[builder]
memory_mb = 1024
disk_gb = 4
silence_min = 5
[machine]
memory_mb = 1024
[[steps]]
name = "env"
conda = { environment = "environment.yml", default = true }
[[tests]]
name = "environment"
run = '''
set -o errexit
test "$(/opt/conda/bin/python -c 'import lab_noarch; print(lab_noarch.WORD)')" = imported
/opt/conda/bin/python -c 'import six'
test "$(/opt/conda/bin/lab-tool)" = /opt/conda
test "$(cat /opt/conda/share/linked)" = /opt/conda
! ls /opt/conda-build
grep --quiet '"url": "http://127.0.0.1:' /opt/conda/conda-meta/lab-tool-1.0-0.json
grep --quiet 'Lab (conda)' /usr/local/share/jupyter/kernels/conda-lab/kernel.json
grep --quiet '"default_kernel_name": "conda-lab"' /etc/jupyter/jupyter_server_config.json
'''
"""
KERNEL = '{"argv": ["/placeholder/bin/python", "-m", "ipykernel_launcher"], "display_name": "Lab", "language": "python"}'


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    """Make a channel; its Python is the base's own, in the form of a virtual environment."""
    folder = tmp_path / "channel"
    publish(
        folder,
        "python",
        "3.13.5",
        subdir="linux-64",
        files={"pyvenv.cfg": "home = /usr/bin\n", "lib/python3.13/site-packages/README": "\n"},
        links={"bin/python": "/usr/bin/python3", "bin/python3.13": "/usr/bin/python3"},
    )
    publish(
        folder,
        "lab-noarch",
        "1.0",
        noarch="python",
        depends=["python"],
        files={"site-packages/lab_noarch.py": "WORD = 'imported'\n"},
    )
    publish(
        folder,
        "lab-tool",
        "1.0",
        subdir="linux-64",
        depends=["__glibc >=2.41"],
        files={
            "bin/lab-tool": "#!/bin/sh\necho /placeholder\n",
            "bin/.lab-tool-post-link.sh": '#!/bin/sh\necho "$PREFIX" >"$PREFIX/share/linked"\n',
            "share/lab": "\n",
            "share/jupyter/kernels/lab/kernel.json": KERNEL,
        },
        has_prefix=["bin/lab-tool", "share/jupyter/kernels/lab/kernel.json"],
    )
    return folder


def recipe(tmp_path: Path, url: str) -> str:
    (tmp_path / "environment.yml").write_text(
        f"channels: [{url}]\ndependencies:\n  - python\n  - lab-noarch\n  - lab-tool\n  - pip:\n    - six\n"
    )
    path = tmp_path / "conda-lab.toml"
    path.write_text(RECIPE)
    return str(path)


def test_an_environment_is_installed_from_its_lock_and_works_in_the_machine(
    bakehouse: Bakehouse, channel: Path, tmp_path: Path
) -> None:
    with served(channel) as url:
        baked = bakehouse.must("bake", "--recipe", recipe(tmp_path, url), "--json", timeout_s=1200)
    assert not baked.result["reused"]
