"""Rendering: the same recipe gives the same script, clean shell, with the files and versions in it, and no secret."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import shlex
import subprocess
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import clouds
from bakery.errors import RecipeError
from bakery.recipe.recipe import KINDS, Notebook, Recipe, available, load
from bakery.script.conda import Lock, Package
from bakery.script.pins import Pin
from bakery.script.render import (
    DIGEST_LENGTH,
    Part,
    Script,
    check_size,
    digest,
    frame,
    measure_bytes,
    receiver,
    render,
    render_tests,
)
from bakery.script.resolve import Resolution
from clouds.aws import user_data
from clouds.driver import Base, BaseImage, Limits
from clouds.errors import InvalidError
from tests.machine_code import TEMPLATES

ALL = """
name = "all"
[variables]
word = "it's; rm -rf /"
[[steps]]
name = "tools"
apt = ["git", "g++"]
[[steps.apt_sources]]
name = "lab"
uri = "https://lab.example/a'b"
suite = "stable"
components = ["main", "extra"]
key = { url = "https://lab.example/key.asc", sha256 = "%s" }
[[steps.apt_sources]]
name = "own"
uri = "file:/opt/debs"
suite = "./"
key = { file = "own.gpg" }
[[steps.apt_sources]]
name = "contrib"
uri = "https://deb.debian.org/debian"
suite = "trixie"
components = ["contrib"]
[[steps]]
name = "packages"
python = { packages = ["jupyterlab", "numpy"], imports = ["numpy", "json"] }
[[steps]]
name = "r"
conda = { packages = ["r-base>=4"], channels = ["conda-forge", "bioconda"], default = true }
[[steps]]
name = "files"
copy = [
    { from = "data", to = "/home/notebook/work/data" },
    { from = "tool.sh", to = "/usr/local/bin/" },
    { from = "data/a.csv", to = "/etc/a b.csv", mode = "0600", owner = "root:notebook" },
]
[[steps]]
name = "model"
fetch = [{ url = "https://example.org/a?b=c&d='", sha256 = "%s", to = "/opt/model of mine.bin" }]
[[steps]]
name = "inline"
run = "echo {{ word | quote }} ${#BASH_SOURCE[@]}"
[[steps]]
name = "own"
script = "tool.sh"
[[steps]]
name = "notebook"
notebook = { root_dir = "/srv/it's here", default_url = "/lab/tree/a", rsub = true }
[[tests]]
name = "user"
run = "id"
[[tests]]
name = "root"
run = "id"
user = "root"
""".replace("%s", "0" * 64)
KEY = b"\x98\x33" + bytes(90)
"""The beginning of an OpenPGP public key, and no more."""
BASE = BaseImage("base-1234", "us", Base("trixie", "amd64"))
LOCK = Lock((Package("https://example.org/c/noarch/r-base-4-0.conda", "0" * 64),), (Pin("six==1.17.0", ("sha256:" + "1" * 64,)),))
RESOLUTION = Resolution({"packages": ("jupyterlab==4.5.0", "numpy==2.4.0")}, "2026-01-02T03:04:05Z", conda=LOCK)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/a.csv").write_text("1,2\n")
    (tmp_path / "data/sub/b.csv").write_text("3,4\n")
    (tmp_path / "tool.sh").write_text("echo {{ word | quote }} '{{.Other}}'\n")
    (tmp_path / "tool.sh").chmod(0o755)
    (tmp_path / "own.gpg").write_bytes(KEY)
    (tmp_path / "all.toml").write_text(ALL)
    return load(tmp_path / "all.toml")


def resolution_of(recipe: Recipe) -> Resolution:
    """Return a resolution without asking anybody."""
    return Resolution({step.name: ("numpy==2.4.0",) for step in recipe.steps if step.python}, conda=LOCK)


def scripts(recipe: Recipe) -> list[Script]:
    return [script for script in (render(recipe, resolution_of(recipe)), render_tests(recipe)) if script]


def shell_texts(script: Script) -> list[str]:
    """Return a script, and each shell script that it holds in a here-document, at any depth."""
    found = [script.text]
    for text in found:
        for match in re.finditer(r"<<'(END_\w+|FILE|LIB|RUN_STEP)'\n(.*?)^\1$", text, re.MULTILINE | re.DOTALL):
            if match[1] != "FILE" or match[2].startswith("#!/bin/bash"):
                found.append(match[2])  # noqa: PERF401 - it is gone through while it grows
    return found


def step_text(script: Script, name: str) -> str:
    """Return the script of one step."""
    match = re.search(rf"^step \d+ {name}(?: \w+)? <<'(\w+)'\n(.*?)^\1$", script.text, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[2]


def is_clean(texts: list[str]) -> str:
    """Return what shellcheck says."""
    return "".join(map(shellcheck, texts))


@cache
def shellcheck(text: str) -> str:
    """Return what shellcheck says of one text; most texts are the same in every script, and checked once."""
    command = ["shellcheck", "--shell=bash", "--severity=style", "-"]
    # Sourced files are not constant; the frame defines the functions that steps call.
    command += ["--exclude=SC1090,SC1091"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("name", available())
def test_the_scripts_of_our_recipes_are_clean(name: str) -> None:
    assert is_clean([text for script in scripts(load(name)) for text in shell_texts(script)]) == ""


def test_the_script_that_receives_another_is_clean_and_small() -> None:
    sizes = {f"{number:064x}.tar": 2**30 for number in range(20)}
    text = receiver(12, "0123456789abcdef" * 2, "ssh-ed25519 AAAA it's mine", sizes, deadline_s=600)
    assert is_clean([text]) == ""
    assert len(text.encode()) < 8192  # EC2 takes 16 KiB
    assert "0123456789abcdef" * 2 not in text


def test_the_scripts_of_every_kind_of_step_are_clean(recipe: Recipe) -> None:
    assert {step.kind for step in recipe.steps} == set(KINDS)
    assert is_clean([text for script in scripts(recipe) for text in shell_texts(script)]) == ""


def test_the_shell_inside_a_script_is_found(recipe: Recipe) -> None:
    texts = shell_texts(render(recipe, RESOLUTION))
    for beginning in (
        "missing=()\ncommand -v curl",
        "#!/bin/bash\n# Set the notebook's password",
        "# Helpers for steps",
    ):
        assert any(text.startswith(beginning) for text in texts)


def test_a_small_script_fits_into_the_user_data_of_ec2_with_some_room_left() -> None:
    text = render(load("minimal"), Resolution({}), cloud="aws").text
    assert len(gzip.compress(text.encode())) < user_data.SCRIPT_BYTES - 256


def test_the_python_inside_a_script_is_python(recipe: Recipe) -> None:
    text = render(recipe, RESOLUTION).text
    found = dict(re.findall(r"^ *cat >(\S+\.py) <<'FILE'\n(.*?)^FILE$", text, re.MULTILINE | re.DOTALL))
    assert {path.rpartition("/")[2] for path in found} == {
        "identity.py",
        "jupyter.py",
        "jupyter_front.py",
        "jupyter_server_config.py",
    }
    for path, program in found.items():
        compile(program, path, "exec")


def test_checkpoints_are_the_steps_between_what_every_bake_does(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    assert script.checkpoints == ("boot", "prepare", *(step.name for step in recipe.steps), "seal")


def test_checkpoints_of_the_tests_are_their_names(recipe: Recipe) -> None:
    tests = render_tests(recipe)
    assert tests is not None
    assert tests.checkpoints == ("boot", "user", "root")
    assert re.search(r"^step 2 user notebook <<", tests.text, re.MULTILINE)
    assert re.search(r"^step 3 root <<", tests.text, re.MULTILINE)


def test_a_recipe_without_tests_has_no_script_for_them(recipe: Recipe) -> None:
    assert render_tests(replace(recipe, tests=())) is None


def test_the_same_recipe_gives_the_same_script(recipe: Recipe) -> None:
    assert render(recipe, RESOLUTION) == render(recipe, RESOLUTION)


def test_pins_are_installed_as_they_are(recipe: Recipe) -> None:
    text = step_text(render(recipe, RESOLUTION), "packages")
    assert "--no-deps \\\n  jupyterlab==4.5.0 \\\n  numpy==2.4.0\n" in text


def test_files_of_packages_are_installed_by_their_hashes_and_commits_as_they_are(recipe: Recipe) -> None:
    plum = "plum @ git+https://example.org/plum@0123abc"
    pins = {"packages": ("apple==2.0", plum, "pear==1.0")}
    hashes = {"apple==2.0": ("sha256:aa", "sha256:bb"), "pear==1.0": ("sha256:cc",), plum: ()}
    text = step_text(render(recipe, Resolution(pins, RESOLUTION.refreshed, hashes)), "packages")
    assert "<<'PINS'\napple==2.0 --hash=sha256:aa --hash=sha256:bb\npear==1.0 --hash=sha256:cc\nPINS\n" in text
    assert "--no-deps --require-hashes --requirement=/opt/notebook/.pins.txt\n" in text
    assert f"--no-deps \\\n  {shlex.quote(plum)}\n" in text


def test_uv_itself_is_installed_by_the_hashes_of_our_own_lock(recipe: Recipe) -> None:
    text = step_text(render(recipe, RESOLUTION), "packages")
    assert re.search(r"<<'PINS'\nuv==\S+( --hash=sha256:[0-9a-f]{64})+\nPINS\n", text)


def test_sources_come_before_the_packages_of_their_step_and_their_keys_before_them(recipe: Recipe) -> None:
    text = step_text(render(recipe, RESOLUTION), "tools")
    assert f"fetch_file https://lab.example/key.asc {'0' * 64} /etc/apt/keyrings/lab.key 0644\n" in text
    source = shlex.quote("https://lab.example/a'b")
    assert f"apt_source lab {source} stable 'main extra' /etc/apt/keyrings/lab.key\n" in text
    key = re.search(
        r"base64 --decode >/etc/apt/keyrings/own.key <<'KEY'\n(.*?)^KEY\napt_source own ", text, re.MULTILINE | re.DOTALL
    )
    assert key
    assert base64.b64decode(key[1]) == KEY
    assert (
        "apt_source contrib https://deb.debian.org/debian trixie contrib /usr/share/keyrings/debian-archive-keyring.gpg\n" in text
    )
    assert text.endswith("apt_install git g++\n")


def test_the_digest_changes_with_a_source_and_with_its_key(recipe: Recipe) -> None:
    first, step = digests(recipe), recipe.steps[0]
    assert step.apt_sources
    other = replace(step, apt_sources=step.apt_sources[:2])
    changed = digests(replace(recipe, steps=(other, *recipe.steps[1:])))
    (recipe.folder / "own.gpg").write_bytes(KEY + b"x")
    assert len({first, changed, digests(recipe)}) == 3


def test_step_of_sources_alone_installs_nothing(recipe: Recipe) -> None:
    alone = replace(recipe, steps=(replace(recipe.steps[0], apt=None), *recipe.steps[1:]))
    assert alone.steps[0].kind == "apt"
    assert "apt_install" not in step_text(render(alone, RESOLUTION), "tools")


def test_rc_local_of_debian_runs_if_a_recipe_makes_one(recipe: Recipe) -> None:
    """The base has no generator for it; the unit runs nothing unless the file is executable (rc-local.service of systemd)."""
    text = step_text(render(recipe, RESOLUTION), "prepare")
    assert "/usr/lib/systemd/system/rc-local.service /etc/systemd/system/multi-user.target.wants/rc-local.service\n" in text


def test_what_is_interpolated_is_quoted(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    assert "'https://example.org/a?b=c&d='\"'\"''" in step_text(script, "model")
    assert "'/opt/model of mine.bin'" in step_text(script, "model")
    assert shlex.quote("/srv/it's here") in step_text(script, "notebook")
    assert step_text(script, "inline") == """echo 'it'"'"'s; rm -rf /' ${#BASH_SOURCE[@]}\n"""
    assert step_text(script, "own") == """echo 'it'"'"'s; rm -rf /' '{{.Other}}'\n"""


def test_files_travel_with_mode_and_owner(recipe: Recipe) -> None:
    (files,) = render(recipe, RESOLUTION).archives(0)
    packed = io.BytesIO()
    files.write(packed.write)
    assert files.size_bytes == len(packed.getvalue())
    with tarfile.open(fileobj=io.BytesIO(packed.getvalue())) as tar:
        members = {member.name: (oct(member.mode), member.uname, member.gname) for member in tar}
        content = tar.extractfile("home/notebook/work/data/sub/b.csv")
        assert content is not None
        assert content.read() == b"3,4\n"
    assert members == {
        "home/notebook/work": ("0o755", "notebook", "notebook"),
        "home/notebook/work/data": ("0o755", "notebook", "notebook"),
        "home/notebook/work/data/a.csv": ("0o644", "notebook", "notebook"),
        "home/notebook/work/data/sub": ("0o755", "notebook", "notebook"),
        "home/notebook/work/data/sub/b.csv": ("0o644", "notebook", "notebook"),
        "usr/local/bin/tool.sh": ("0o755", "root", "root"),
        "etc/a b.csv": ("0o600", "root", "notebook"),
    }


def test_a_file_that_has_gone_since_is_told(recipe: Recipe) -> None:
    (recipe.folder / "tool.sh").unlink()
    with pytest.raises(RecipeError, match=r"tool\.sh"):
        render(recipe, RESOLUTION)


def test_a_boot_fills_in_its_nonce_in_two_halves(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    filled = script.for_boot("0123456789abcdef" * 2, deadline_s=77, keep=True, done=3)
    assert "\na='0123456789abcdef' b='0123456789abcdef' deadline_s='77' keep='1' reached='3'\n" in filled
    assert "0123456789abcdef" * 2 not in filled
    assert "@" not in filled.partition("\ntotal=")[0]


def test_what_a_recipe_writes_never_learns_the_nonce() -> None:
    script = frame("a test", [Part("one", "echo @NONCE_A@@NONCE_B@ @KEEP@ @DEADLINE_S@\n")], is_bake=True)
    filled = script.for_boot("0123456789abcdef" * 2, deadline_s=0)
    assert "echo @NONCE_A@@NONCE_B@ @KEEP@ @DEADLINE_S@\n" in filled


def test_only_a_bake_has_what_is_for_a_builder(recipe: Recipe) -> None:
    tests = render_tests(recipe)
    assert tests is not None
    for word in ("poweroff --force\n  fi", "journald", "@KEEP@", "run/build/env"):
        assert word not in tests.text
        assert word in render(recipe, RESOLUTION).text


def digests(recipe: Recipe, resolution: Resolution = RESOLUTION, base: BaseImage = BASE) -> str:
    return digest(render(recipe, resolution), render_tests(recipe), base)


def test_the_digest_is_short_enough_for_a_label(recipe: Recipe) -> None:
    assert re.fullmatch(rf"[0-9a-f]{{{DIGEST_LENGTH}}}", digests(recipe))


def test_the_digest_changes_with_whatever_makes_another_image(recipe: Recipe) -> None:
    before = digests(recipe)
    found = [
        digests(recipe, Resolution({"packages": ("jupyterlab==4.5.1",)}, RESOLUTION.refreshed)),
        digests(recipe, Resolution(RESOLUTION.pins, "2026-02-02T03:04:05Z")),
        digests(recipe, base=replace(BASE, id="base-5678")),
        digests(replace(recipe, steps=recipe.steps[:-1])),
        digests(replace(recipe, tests=recipe.tests[:-1])),
        digests(replace(recipe, builder=replace(recipe.builder, disk_gb=20))),
        digests(replace(recipe, machine=replace(recipe.machine, memory_mb=8192))),
    ]
    (recipe.folder / "data/a.csv").write_text("1,3\n")
    found.append(digests(recipe))
    assert len({before, *found}) == 1 + len(found)


def test_the_digest_does_not_change_with_what_leaves_the_image_as_it_is(recipe: Recipe) -> None:
    before = digests(recipe)
    assert digests(replace(recipe, description="another", builder=replace(recipe.builder, cpus=8, memory_mb=999))) == before
    (recipe.folder / "data/a.csv").touch()
    assert digests(recipe) == before


def test_the_text_of_a_step_that_copies_names_the_archive_alone(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    (files,) = script.archives(0)
    assert step_text(script, "files") == f"unpack {files.sha256}\n"


def test_archives_are_those_of_the_steps_that_are_asked_for(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    at = script.checkpoints.index("files")
    assert [len(script.archives(first, last)) for first, last in ((at, at + 1), (at, None), (0, at), (at + 1, None))] == [
        1,
        1,
        0,
        0,
    ]


def test_a_file_that_has_changed_since_its_digest_was_taken_is_not_sent(recipe: Recipe) -> None:
    (files,) = render(recipe, RESOLUTION).archives(0)
    (recipe.folder / "data/a.csv").write_text("9,9\n")
    with pytest.raises(RecipeError, match="changed since the bake began"):
        files.write(lambda piece: None)
    (recipe.folder / "data/a.csv").write_text("")
    with pytest.raises(RecipeError, match="changed since the bake began"):
        files.write(lambda piece: None)
    (recipe.folder / "data/a.csv").unlink()
    with pytest.raises(RecipeError, match=r"a\.csv"):
        files.write(lambda piece: None)


def test_what_is_carried_is_laid_out_before_the_first_step_and_changes_no_other_line(recipe: Recipe) -> None:
    script = render(recipe, RESOLUTION)
    plain, carrying = (script.for_boot("0" * 32, deadline_s=0, carried=carried) for carried in ({}, {"abc": "AAAA\n"}))
    added = carrying.replace(plain.partition("\nstep 2 ")[0].rstrip("\n"), "").partition("\nstep 2 ")[0]
    assert added.strip().endswith("""base64 --decode >"$run/files/abc.tar.gz" <<'ARCHIVE'\nAAAA\nARCHIVE""")
    assert "@FILES@" not in plain + carrying


@pytest.mark.parametrize("compresses", [False, True])
def test_a_script_that_is_larger_than_its_cloud_takes_is_an_error_with_both_sizes(compresses: bool) -> None:
    text = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(20))
    size_bytes = len(gzip.compress(text.encode(), mtime=0)) if compresses else 1280
    check_size("gcp", "tests", text, Limits(script_bytes=size_bytes, compresses_script=compresses))
    check_size("gcp", "tests", text, Limits())
    with pytest.raises(InvalidError, match=f"tests: {size_bytes} bytes.*; gcp takes scripts of up to {size_bytes - 1} bytes"):
        check_size("gcp", "tests", text, Limits(script_bytes=size_bytes - 1, compresses_script=compresses))


def test_our_largest_recipe_fits_the_smallest_limit_of_a_cloud() -> None:
    """Compute Engine takes 256 KB in a value of metadata (cloud.google.com/compute/docs/metadata/setting-custom-metadata).

    The hashes of packages alone, which nothing compresses, take some 5 KB: too much for 16 KiB of user data, as on EC2.
    """
    recipe = load("jupyter")
    pins = tuple(f"some-package-{number}=={number}.{number * 7 % 10}.{number * 3 % 7}" for number in range(110))
    hashes = {pin: (f"sha256:{hashlib.sha256(pin.encode()).hexdigest()}",) for pin in pins}
    script = render(recipe, Resolution({"packages": pins}, RESOLUTION.refreshed, hashes))
    assert 16_384 < measure_bytes(script.text, Limits(compresses_script=True)) < 32_768
    assert measure_bytes(script.text, Limits()) < 256_000


def test_a_step_whose_packages_are_all_there_already_installs_none(recipe: Recipe) -> None:
    assert "uv pip install" not in step_text(render(recipe, Resolution({"packages": ()})), "packages")


@pytest.mark.parametrize("cloud", clouds.DRIVERS)
def test_each_cloud_has_one_template_for_its_guests(cloud: str) -> None:
    assert (TEMPLATES / f"clouds/{cloud}.sh.j2").is_file()


def test_no_other_template_names_a_cloud_that_sells_machines() -> None:
    shared = [path for path in TEMPLATES.rglob("*") if path.is_file() and path.parent != TEMPLATES / "clouds"]
    named = re.compile(r"google|gce\b|compute engine|amazon|\baws\b|ec2|169\.254\.169\.254", re.IGNORECASE)
    credentials = {"steps/seal.sh.j2"}  # which every user may have, whatever cloud the image is for
    found = {str(path.relative_to(TEMPLATES)) for path in shared if named.search(path.read_text(encoding="utf-8"))}
    assert found <= credentials


@pytest.mark.parametrize("cloud", clouds.DRIVERS)
def test_script_for_each_cloud_is_clean_shell(recipe: Recipe, cloud: str) -> None:
    assert is_clean(shell_texts(render(recipe, RESOLUTION, cloud=cloud))) == ""


def test_script_holds_the_template_of_its_cloud_only(recipe: Recipe) -> None:
    texts = {cloud: step_text(render(recipe, RESOLUTION, cloud=cloud), "prepare") for cloud in ("", "local", "gcp", "gcp.research")}
    assert texts[""] == texts["local"]
    assert texts["gcp"] == texts["gcp.research"]
    assert "169.254.169.254" in texts["gcp"]
    assert "169.254.169.254" not in texts["local"]


@pytest.mark.parametrize(
    ("name", "own"),
    [("own.py", "# FILE\nc.ServerApp.default_url = '/x'\n"), ("own.json", '{\n"ServerApp": {"default_url": "/x"}\n}\n')],
)
def test_settings_of_a_notebook_are_laid_over_ours_and_tried(tmp_path: Path, name: str, own: str) -> None:
    (tmp_path / name).write_text(own)
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[[steps]]\nname = "packages"\npython = { packages = ["jupyterlab"] }\n'
        f'[[steps]]\nname = "notebook"\nnotebook = {{ settings = "{name}" }}\n'
    )
    text = render(load(tmp_path / "mine.toml"), RESOLUTION).text
    kind = name.rpartition(".")[2]
    found = re.search(
        rf"^base64 --decode >/usr/local/etc/jupyter/jupyter_server_config\.{kind} <<'FILE'\n(.*?)^FILE$", text, re.M | re.S
    )
    assert found
    assert base64.b64decode(found[1]).decode() == own
    assert "load_config_file(suppress_errors=False)" in text[found.end() :]


def test_a_notebook_without_settings_of_its_own_tries_none(recipe: Recipe) -> None:
    assert "load_config_file" not in render(recipe, RESOLUTION).text


def test_a_notebook_has_rmate_of_a_pinned_hash_only_where_the_recipe_says_so(recipe: Recipe) -> None:
    [step] = [step for step in recipe.steps if step.notebook]
    without = replace(recipe, steps=(replace(step, notebook=Notebook()),))
    found = [
        re.search(r"^rmate==[\d.]+ --hash=sha256:[0-9a-f]{64}$", render(one, RESOLUTION).text, re.M) for one in (recipe, without)
    ]
    assert [bool(one) for one in found] == [True, False]
