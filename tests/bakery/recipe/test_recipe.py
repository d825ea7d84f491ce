"""Recipes: valid ones become records; all problems of an invalid one are reported together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakery.errors import RecipeError
from bakery.recipe.recipe import IMAGES, KINDS, Recipe, available, load
from tests.matrix import examples

GOOD = """
name = "mine"
description = "One of each kind"
[builder]
disk_gb = 20
[variables]
dataset = "it's here"
release = "v1.2"
[[steps]]
name = "tools"
apt = ["git", "g++", "libssl-dev:amd64", "curl=8.14.1-2", "vim/trixie-backports"]
[[steps.apt_sources]]
name = "lab"
uri = "https://lab.example/apt"
suite = "stable"
components = ["main", "extra"]
key = { url = "https://lab.example/key.asc", sha256 = "%s" }
[[steps.apt_sources]]
name = "flat"
uri = "file:/opt/debs"
suite = "./"
[[steps]]
name = "packages"
python = { packages = ["JupyterLab>=4", "numpy"], imports = ["numpy.linalg"] }
[[steps]]
name = "r"
conda = ["r-base >=4", "numpy"]
[[steps]]
name = "files"
copy = [{ from = "data", to = "/opt/data" }, { from = "hello.sh", to = "/usr/local/bin/", mode = "0755", owner = "root:notebook" }]
[[steps]]
name = "model"
fetch = [{ url = "https://example.org/{{release}}/model", sha256 = "%s", to = "/opt/model.bin" }]
[[steps]]
name = "inline"
run = "echo {{ dataset | quote }} ${#array[@]} {{.Names}}"
[[steps]]
name = "own-script"
script = "hello.sh"
[[steps]]
name = "notebook"
notebook = { default_url = "/lab/tree/data" }
[[tests]]
name = "works"
run = "true"
user = "root"
""".replace("%s", "0" * 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/points.csv").write_text("1,2\n")
    (tmp_path / "hello.sh").write_text("echo hello\n")
    return tmp_path


def read(folder: Path, text: str) -> Recipe:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return load(folder / "mine.toml")


def problems(folder: Path, text: str) -> list[str]:
    """Return the problems of a recipe text, without the file name."""
    with pytest.raises(RecipeError) as raised:
        read(folder, text)
    return [problem.partition("mine.toml: ")[2] for problem in raised.value.problems]


def step(body: str) -> str:
    return f'name = "mine"\n[[steps]]\nname = "one"\n{body}\n'


def table(**values: str | None) -> str:
    """Return a source of Debian packages as an inline table in which some values are others, in TOML."""
    good = {"name": '"lab"', "uri": '"https://lab.example/apt"', "suite": '"stable"', "components": '["main"]'}
    return "{ " + ", ".join(f"{key} = {value}" for key, value in {**good, **values}.items() if value is not None) + " }"


def source(line: str) -> str:
    """Return the key `apt_sources` with one source that has this line."""
    key, _, value = line.partition(" = ")
    return f"apt_sources = [{table(**({key: value} if key else {}))}]"


@pytest.mark.parametrize("name", available())
def test_the_recipes_that_are_shipped_are_right(name: str) -> None:
    assert load(name).name == name


def test_a_recipe_may_have_a_step_of_each_kind(folder: Path) -> None:
    recipe = read(folder, GOOD.replace("{{.Names}}", ""))
    assert tuple(step.kind for step in recipe.steps) == KINDS
    assert recipe.has_notebook


def test_what_is_left_out_has_a_default(folder: Path) -> None:
    recipe = read(folder, 'name = "mine"')
    assert (recipe.base.suite, recipe.base.architecture) == ("trixie", "amd64")
    assert (recipe.builder.cpus, recipe.builder.memory_mb, recipe.builder.disk_gb) == (2, 4096, 10)
    assert not recipe.has_notebook


def test_the_disk_of_a_machine_is_that_of_the_builder_unless_given(folder: Path) -> None:
    assert read(folder, 'name = "mine"\n[builder]\ndisk_gb = 33').machine.disk_gb == 33
    assert read(folder, 'name = "mine"\n[builder]\ndisk_gb = 33\n[machine]\ndisk_gb = 44').machine.disk_gb == 44


def test_packages_in_the_base_are_those_of_the_first_steps_that_say_so(folder: Path) -> None:
    first = step('in_base = true\napt = ["vim", "git"]\n[[steps]]\nname = "two"\nin_base = true\napt = ["git", "g++"]')
    assert read(folder, f'{first}\n[[steps]]\nname = "three"\napt = ["zip"]').packages_in_base == ("g++", "git", "vim")
    assert read(folder, step('in_base = false\napt = ["git"]')).packages_in_base == ()


def test_variables_are_put_into_steps_and_nothing_else_in_braces_is_touched(folder: Path) -> None:
    recipe = read(folder, GOOD)
    assert recipe.steps[5].run == """echo 'it'"'"'s here' ${#array[@]} {{.Names}}"""


@pytest.mark.parametrize("url", ["git+https://example.org/x@1.16.0", "https://example.org/@scope/x.whl", "https://example.org/x@1"])
def test_address_of_a_python_package_may_contain_an_at_sign_after_the_server(folder: Path, url: str) -> None:
    found = read(folder, step(f'python = {{ packages = ["x @ {url}"] }}')).steps[0].python
    assert found
    assert found.packages == (f"x @ {url}",)


def test_without_variables_braces_are_left_alone(folder: Path) -> None:
    assert read(folder, step('run = "echo {{ anything }}"')).steps[0].run == "echo {{ anything }}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "name: is missing (write name = ...)"),
        ('name = "other"', 'name: is "other", but the file is called mine.toml (write name = "mine", or rename the file)'),
        ('name = "mine"\nnmae = 1', 'nmae: is not a known key here (write "name")'),
        ('name = "mine"\nfolder = "/etc"', "folder: is not a known key here"),
        ('name = "mine"\n[[seal.allow]]\npath = "/srv/key"', "seal.allow[0].reason: is missing (write reason = ...)"),
        ('name = "mine"\n[[seal.allow]]\nreason = "of tests"', "seal.allow[0]: allows nothing (write a path, or the fingerprint"),
        ('name = "mine"\n[[seal.allow]]\npath = "/srv/k"\nreason = " "', 'seal.allow[0].reason: " " is not a reason (write why'),
        (
            'name = "mine"\n[[seal.allow]]\npath = "/srv/"\nreason = "of tests"',
            'seal.allow[0].path: is "/srv/", a whole top folder',
        ),
        ('name = "mine"\n[[seal.allow]]\npath = "k"\nreason = "of tests"', 'seal.allow[0].path: "k" is not an absolute path'),
        ('name = "mine"\n[[seal.allow]]\nfingerprint = "1"\nreason = "of tests"', 'seal.allow[0].fingerprint: "1" is not a'),
        ('name = "mine"\n[[seal.alow]]\npath = "/srv/k"', 'seal.alow: is not a known key here (write "allow")'),
        ('name = "mine"\nseal = 1', "seal: is 1, not a table"),
        ('name = "mine"\n[builder]\ncpus = "8"', 'builder.cpus: is "8", not a whole number (write 8, without quotes)'),
        ('name = "mine"\n[builder]\ncpus = true', "builder.cpus: is true, not a whole number"),
        ('name = "mine"\n[builder]\ncpus = 0', "builder.cpus: is 0 (write 1 or more)"),
        ('name = "mine"\n[builder]\nmemory_mb = 9999999', "builder.memory_mb: is 9999999 (write 4194304 or less)"),
        ('name = "mine"\n[builder]\nmemory = 9', 'builder.memory: is not a known key here (write "memory_mb")'),
        ('name = "mine"\n[base]\nsuite = "sid"', 'base.suite: is "sid" (write "trixie" or "noble")'),
        (
            'name = "mine"\nbase = "trixie"',
            'base: is "trixie", not a table (write { key = value }; known keys: suite, architecture)',
        ),
        (step('notebook = { settings = "none.py" }'), 'steps[0].notebook.settings: "none.py" does not exist'),
        (step('notebook = { settings = "jupyter.toml" }'), 'steps[0].notebook.settings: "jupyter.toml" is not a file of Jupyter'),
        (step('notebook = { settings = "/etc/x.py" }'), 'steps[0].notebook.settings: "/etc/x.py" is not a path in the recipe'),
        ('name = "mine"\n[launch]\nspot = "yes"', 'launch.spot: is "yes", not true or false'),
        ('name = "mine"\n[launch]\nport = 70000', "launch.port: is 70000 (write 65535 or less)"),
        ('name = "mine"\n[launch]\nport = 22', "launch.port: is 22, the port of SSH inside the machine (write another one"),
        ('name = "mine"\n[launch]\nport = "8443"', 'launch.port: is "8443", not a whole number (write 8443, without quotes)'),
        ('name = "mine"\n[launch]\nport = "https"', 'launch.port: is "https", not a whole number (write one such as 8443, without'),
        ('name = "mine"\n[launch]\nlifetime_h = "0.5"', 'launch.lifetime_h: is "0.5", not a number (write 0.5, without quotes)'),
        (
            'name = "mine"\n[builder]\ncpus = "04"',
            'builder.cpus: is "04", not a whole number (write one such as 4, without quotes)',
        ),
        ('name = "mine"\n[builder]\nsilence_min = 1441', "builder.silence_min: is 1441 (write 1440 or less)"),
        ('name = "mine"\n[builder]\nsilence_min = nan', "builder.silence_min: is NaN (write a number such as 30)"),
        ('name = "mine"\n[launch]\nhttps = true', "launch.https: needs a notebook (add a `notebook` step"),
        ('name = "mine"\n[launch]\ndisk_gb = 9', "launch.disk_gb: is 9, smaller than machine.disk_gb, 10 (write 10 or more)"),
        *(
            (f'name = "mine"\n[launch]\nlifetime_h = {wrong}', "is not a lifetime in hours (write a number from 0.02 to 8760, or 0")
            for wrong in ("0.01", "8761", "-1", "nan", "inf")
        ),
        ('name = "mine"\n[launch]\ndisk = 9', 'launch.disk: is not a known key here (write "disk_gb")'),
        ('name = "mine"\n[machine]\ndisk_gb = 5', "machine.disk_gb: is 5, smaller than the image's 10 GB (write 10 or more)"),
        ('name = "mine"\n[variables]\nX = "a"', "variables.X: \"X\" is not a variable name (write a-z, 0-9 and '_'"),
        ('name = "mine"\n[variables]\nx = 3', "variables.x: is 3, not text (write it in quotes)"),
        ('name = "mine"\nvariables = 3', "variables: is 3, not a table"),
        ('name = "mine"\nsteps = 3', "steps: is 3, not a list (write it in [ ])"),
        ('name = "mine"\n[[steps]]\nname = "one"', "steps[0]: does nothing (write one of apt, python, conda,"),
        (step('apt = ["git"]\nrun = "true"'), "steps[0]: has apt and run (write a separate step for each)"),
        (step('pyton = { packages = ["numpy"] }'), 'steps[0].pyton: is not a known key here (write "python")'),
        (step("apt = []"), "steps[0].apt: is empty (write at least one item, or remove the key)"),
        (step("in_base = true"), "steps[0]: does nothing (write one of apt, python, conda,"),
        (step('in_base = "yes"\napt = ["git"]'), 'steps[0].in_base: is "yes", not true or false'),
        (step('in_base = true\nrun = "true"'), "steps[0].in_base: is for a step with `apt` and no `apt_sources` (remove it)"),
        (
            step('in_base = true\napt = ["git", "vim/sid"]'),
            'steps[0].in_base: does not fit "vim/sid" (write the name alone, or move the package to another step)',
        ),
        (step('in_base = true\napt = ["libc6:i386"]'), 'steps[0].in_base: does not fit "libc6:i386"'),
        (
            step('run = "true"\n[[steps]]\nname = "two"\nin_base = true\napt = ["git"]'),
            "steps[1].in_base: does not fit after steps[0], which is not in the base (move the step before it)",
        ),
        (step('apt = ["Git Hub"]'), 'steps[0].apt[0]: "Git Hub" is not the name of a Debian package (write one such as "git")'),
        (step('apt = ["git-"]'), 'steps[0].apt[0]: "git-" is not the name of a Debian package'),
        (step('apt = ["--force"]'), 'steps[0].apt[0]: "--force" is not the name'),
        (
            step('python = { packages = ["-r file"] }'),
            'steps[0].python.packages[0]: "-r file" is not a Python package requirement',
        ),
        (
            step('python = { packages = ["x @ https://me:word@example.org/x.whl"] }'),
            "contains a user name, which would stay in the image's log (write a URL that needs none)",
        ),
        (
            step('python = { packages = ["x @ git+ssh://git@example.org/x@1.0"] }'),
            "contains a user name, which would stay in the image's log (write a URL that needs none)",
        ),
        (
            step('python = { packages = ["x"], imports = ["os; evil()"] }'),
            'steps[0].python.imports[0]: "os; evil()" is not a Python module',
        ),
        (
            step('python = ["numpy"]'),
            'steps[0].python: is a list, not a table (write { packages = ["numpy"] }; known keys: packages, requirements,',
        ),
        (step('copy = ["data"]'), 'steps[0].copy[0]: is "data", not a table (write { from = "data.csv", to = "/opt/data.csv" };'),
        (step('fetch = ["x"]'), 'steps[0].fetch[0]: is "x", not a table (write { url = "https://example.org/data.csv", sha256 ='),
        (step("notebook = true"), "steps[0].notebook: is true, not a table (write { }; known keys: root_dir,"),
        (
            step('fetch = [{ url = "https://me:word@example.org/y", sha256 = "%s", to = "/x" }]' % ("0" * 64)),
            'steps[0].fetch[0].url: "https://***@example.org/y" contains a user name, which would stay',
        ),
        (step('run = " "'), 'steps[0].run: " " is empty (write at least one command)'),
        (step('run = "a\\u0000b"'), 'steps[0].run: "a\\u0000b" contains a NUL character'),
        (
            step('script = "nosuch.sh"'),
            'steps[0].script: "nosuch.sh" does not exist (write the path of a file or folder next to the recipe)',
        ),
        (step('script = "data"'), 'steps[0].script: "data" is a folder (write the path of a script)'),
        (step('copy = [{ from = "../x", to = "/x" }]'), 'steps[0].copy[0].from: "../x" is not a path in the recipe\'s folder'),
        (step('copy = [{ from = "/etc/shadow", to = "/x" }]'), 'steps[0].copy[0].from: "/etc/shadow" is not a path in'),
        (step('copy = [{ from = "nosuch", to = "/x" }]'), 'steps[0].copy[0].from: "nosuch" does not exist'),
        (step('copy = [{ from = "data", to = "x" }]'), 'steps[0].copy[0].to: "x" is not an absolute path'),
        (step('copy = [{ from = "data", to = "/x/../y" }]'), 'steps[0].copy[0].to: "/x/../y" is not an absolute path'),
        (step('copy = [{ from = "data", to = "/x", mode = "rwx" }]'), 'steps[0].copy[0].mode: "rwx" is not a file mode'),
        (step('fetch = [{ url = "ftp://x/y", sha256 = "ab", to = "/x" }]'), 'steps[0].fetch[0].sha256: "ab" is not a SHA-256'),
        (step('fetch = [{ url = "http://u:p@x/y", sha256 = "%s", to = "/x" }]' % ("0" * 64)), "contains a user name"),
        (
            step("notebook = {}"),
            'steps[0].notebook: needs JupyterLab (add "jupyterlab" to the packages of an earlier python step)',
        ),
        (step('run = "true"\n[[steps]]\nname = "one"\nrun = "true"'), 'steps[1].name: "one" is already the name of steps[0]'),
        ('name = "mine"\n[[steps]]\nname = "seal"\nrun = "true"', 'steps[0].name: "seal" is a reserved name'),
        ('name = "mine"\n[[tests]]\nname = "boot"\nrun = "true"', 'tests[0].name: "boot" is a reserved name'),
        ('name = "mine"\n[[tests]]\nname = "a"\nrun = "true"\nuser = "a b"', 'tests[0].user: "a b" is not a user name'),
        (
            step("apt_sources = []"),
            "steps[0].apt_sources: is empty (write at least one item, or remove the key)",
        ),
        (step(source("") + '\nrun = "true"'), "steps[0]: has run and apt_sources (write a separate step for each)"),
        (
            step(source('uri = "ftp://x/y"')),
            'steps[0].apt_sources[0].uri: "ftp://x/y" is not a URL (write one such as "https://deb.example.org/debian")',
        ),
        (
            step(f"apt_sources = [{table(uri=None)}]"),
            'steps[0].apt_sources[0].uri: is missing (write uri = "https://deb.example.org/debian")',
        ),
        (
            step('apt_sources = ["deb http://x/y stable main"]'),
            'steps[0].apt_sources[0]: is "deb http://x/y stable main", not a table '
            '(write { name = "lab", uri = "https://deb.example.org/debian", suite = "stable"',
        ),
        (step(source('uri = "https://u:p@x/y"')), "steps[0].apt_sources[0].uri: "),
        (step(source('suite = "a b"')), 'steps[0].apt_sources[0].suite: "a b" is not a suite (write one such as "trixie"'),
        (
            step(source('suite = "/"')),
            'steps[0].apt_sources[0].components: does not fit the suite "/", which is a path (remove it)',
        ),
        (step(source("components = []")), "steps[0].apt_sources[0].components: is empty"),
        (step(source('components = ["a b"]')), 'steps[0].apt_sources[0].components[0]: "a b" is not a component'),
        (step(source('name = "debian"')), 'steps[0].apt_sources[0].name: "debian" is a reserved name (write another name)'),
        (
            step(f"apt_sources = [{table()}, {table()}]"),
            'steps[0].apt_sources[1].name: "lab" is already the name of steps[0].apt_sources[0] (write another name)',
        ),
        (step(f"apt_sources = [{table(components=None)}]"), "steps[0].apt_sources[0].components: is missing (write components = "),
        (step(source("key = {}")), "steps[0].apt_sources[0].key: has neither url nor file (write { url ="),
        (step(source('key = { url = "https://x/k" }')), "steps[0].apt_sources[0].key.sha256: is missing (write the SHA-256"),
        (step(source('key = { url = "https://x/k", file = "hello.sh" }')), "steps[0].apt_sources[0].key: has url and file"),
        (step(source('key = { file = "nosuch" }')), 'steps[0].apt_sources[0].key.file: "nosuch" does not exist'),
        (step(source('key = { file = "data" }')), 'steps[0].apt_sources[0].key.file: "data" is a folder (write the path of a key)'),
        (
            step(source('key = { file = "hello.sh" }')),
            'steps[0].apt_sources[0].key.file: "hello.sh" is not an OpenPGP public key (download the key',
        ),
        (step(source('key = { file = "/etc/key" }')), 'steps[0].apt_sources[0].key.file: "/etc/key" is not a path in'),
        (
            step(source("signed-by = 1")),
            "steps[0].apt_sources[0].signed-by: is not a known key here (known keys: name, uri, suite,",
        ),
        ('name = "mine"\nname = "mine"', "line 2: Cannot overwrite a value (for the syntax of TOML see toml.io)"),
        ('name = "mine', "Unterminated string"),
        ("a = " + "[" * 5000, "is nested too deeply"),
        ("a = " + "9" * 5000, "(for the syntax of TOML see toml.io)"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_write_instead(folder: Path, text: str, told: str) -> None:
    assert any(told in problem for problem in problems(folder, text)), problems(folder, text)


NOTEBOOK = """name = "mine"
[[steps]]
name = "one"
python = { packages = ["jupyterlab"] }
[[steps]]
name = "two"
notebook = { settings = "%s" }
"""


@pytest.mark.parametrize(
    ("source", "content", "told"),
    [
        ("", "", "\"\" is not a path in the recipe's folder (write it relative to that folder, without '..')"),
        (".", "", '"." is not a file of Jupyter\'s settings (write one such as "jupyter.py" or "jupyter.json")'),
        ("a.json", "{\n", '"a.json": line 2: Expecting property name enclosed in double quotes (write valid JSON)'),
        ("a.json", "\ufeff{}", '"a.json": line 1: Unexpected UTF-8 BOM (write valid JSON)'),
        ("a.json", "[]", '"a.json" is not an object (write one such as {"ServerApp": {"open_browser": false}})'),
        ("a.json", "[" * 100_000, '"a.json": maximum recursion depth exceeded'),
        ("a.py", "x = 1\ny = (", "\"a.py\": line 2: '(' was never closed (write valid Python)"),
        ("a.py", "x\0", '"a.py": source code string cannot contain null bytes (write valid Python)'),
    ],
    ids=["empty", "folder", "broken JSON", "BOM", "list", "nested", "broken Python", "NUL"],
)
def test_settings_that_jupyter_cannot_read_are_one_problem(folder: Path, source: str, content: str, told: str) -> None:
    if source.startswith("a"):
        (folder / source).write_text(content)
    (problem,) = problems(folder, NOTEBOOK % source)
    assert problem.startswith(f"steps[1].notebook.settings: {told}")


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("a.json", "{}"),
        ("a.py", ""),
        ("a.py", 'c = get_config()\nc.ServerApp.x = "\\d"'),
        ("a.py", 'x = f"{"quoted"}"'),  # the rest: syntax of Python 3.12 and newer
        ("a.py", "type X = int"),
        ("a.py", "def first[T](of: list[T]) -> T: ..."),
    ],
)
def test_settings_that_the_python_of_an_image_may_read_are_accepted(folder: Path, source: str, content: str) -> None:
    (folder / source).write_text(content)
    assert read(folder, NOTEBOOK % source).has_notebook


def test_the_default_port_may_be_the_usual_one_of_a_notebook(folder: Path) -> None:
    assert read(folder, NOTEBOOK.partition("notebook =")[0] + "notebook = {}\n[launch]\nport = 8888").launch.port == 8888


def test_everything_is_told_at_once(folder: Path) -> None:
    text = 'nam = "x"\n[builder]\ncpus = 0\n[[steps]]\nname = "A"\napt = [1]\n[[steps]]\nname = "nb"\nnotebook = {}\n'
    assert [problem.partition(":")[0] for problem in problems(folder, text)] == [
        "builder.cpus",
        "nam",
        "name",
        "steps[0].apt[0]",
        "steps[0].name",
        "steps[1].notebook",
    ]


def test_each_problem_begins_with_the_file_and_is_one_line(folder: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        read(folder, 'name = "a\\nb"\n"odd\\nkey" = 1\ndescription = "\\u001b[31m"')
    assert len(raised.value.problems) == 4
    for problem in raised.value.problems:
        assert problem.startswith(f"{folder}/mine.toml: ")
        assert problem.isprintable()


def test_a_variable_that_there_is_not_is_told_with_the_nearest(folder: Path) -> None:
    text = 'name = "mine"\n[variables]\nversion = "1"\n' + step('run = "echo {{ verson }}"').partition("\n")[2]
    assert problems(folder, text) == ["steps[0].run: {{ verson }} is not a variable of this recipe (write {{ version }})"]


def test_a_variable_in_a_script_of_its_own_is_checked_too(folder: Path) -> None:
    (folder / "hello.sh").write_text("echo {{ nosuch }}\n")
    text = 'name = "mine"\n[variables]\nversion = "1"\n' + step('script = "hello.sh"').partition("\n")[2]
    assert "{{ nosuch }} is not a variable of this recipe (add nosuch to [variables]; known: version)" in problems(folder, text)[0]


def test_a_link_out_of_the_folder_is_not_followed(folder: Path) -> None:
    (folder / "out").symlink_to("/etc/hostname")
    assert "is outside the recipe's folder" in problems(folder, step('copy = [{ from = "out", to = "/x" }]'))[0]


def test_a_file_that_is_too_large_is_refused_by_name_with_its_size_and_the_limit(folder: Path) -> None:
    large = folder / "data/large"
    large.touch()
    os.truncate(large, 2**30)
    assert read(folder, step('copy = [{ from = "data", to = "/x" }]')).steps[0].copy
    os.truncate(large, 2**30 + 2**19)
    told = problems(folder, step('copy = [{ from = "data", to = "/x" }]'))
    assert told == ['steps[0].copy[0].from: "large": 1024.5 MiB; a file may have 1024 MiB (write a `fetch` step)']


def test_files_that_are_too_large_together_are_refused(folder: Path) -> None:
    for number in range(5):
        (folder / f"data/{number}").touch()
        os.truncate(folder / f"data/{number}", 2**30 - 1)
    told = problems(folder, step('copy = [{ from = "data", to = "/x" }]'))
    assert told == ["steps: copy 5120.0 MiB in all; a recipe may copy 4096 MiB (write a `fetch` step)"]


def test_a_name_that_is_no_recipe_is_told_with_the_nearest() -> None:
    with pytest.raises(
        RecipeError,
        match=r"""recipe 'jupiter' not found \(write "jupyter"; known recipes: anywhere, boosting, """,
    ):
        load("jupiter")


@pytest.mark.parametrize("path", ["/no/such/file.toml", "./", "a\0b.toml", "x" * 5000 + ".toml", ""])
def test_a_path_that_leads_nowhere_is_told(path: str) -> None:
    with pytest.raises(RecipeError):
        load(path)


def test_recipes_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\n')
    assert available(tmp_path) == ["a", "b"]
    assert load("a", tmp_path).name == "a"


def outcome(folder: Path, content: bytes) -> Recipe | RecipeError:
    """Load whatever it is; anything but a recipe or the one error is our bug."""
    (folder / "mine.toml").write_bytes(content)
    try:
        return load(folder / "mine.toml")
    except RecipeError as error:
        return error


UNCHANGED = settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])


@UNCHANGED
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_are_a_recipe_or_told(folder: Path, content: bytes) -> None:
    assert isinstance(outcome(folder, content), RecipeError)


@UNCHANGED
@given(at=st.integers(0, len(GOOD)), cut=st.integers(0, 30), put=st.text(max_size=10))
def test_a_recipe_with_a_typo_is_a_recipe_or_told(folder: Path, at: int, cut: int, put: str) -> None:
    damaged = GOOD[:at] + put + GOOD[at + cut :]
    assert outcome(folder, damaged.encode("utf-8", "surrogatepass"))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["mine", "jupyterlab", "/a", "{{ x }}", "0" * 64]
)
scalars = texts | st.integers() | st.floats() | st.booleans()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[machine]\ndisk_gb = 0", ["machine.disk_gb: is 0, smaller than the image's 10 GB (write 10 or more)"]),
        ("[launch]\ndisk_gb = 0", ["launch.disk_gb: is 0, smaller than machine.disk_gb, 10 (write 10 or more)"]),
        ("[launch]\ndisk_gb = 99999", ["launch.disk_gb: is 99999 (write 65536 or less)"]),
        ("[builder]\ndisk_gb = 99999", ["builder.disk_gb: is 99999 (write 65536 or less)"]),
        ("[builder]\ndisk_gb = 99999\n[machine]\ndisk_gb = 3", ["builder.disk_gb: is 99999 (write 65536 or less)"]),
    ],
)
def test_size_of_a_disk_that_is_wrong_is_reported_once(folder: Path, text: str, problems: list[str]) -> None:
    with pytest.raises(RecipeError) as refused:
        read(folder, f'name = "mine"\n{text}')
    assert [line.partition(".toml: ")[2] for line in refused.value.message.splitlines()] == problems


KEYS = ["name", "steps", "tests", "builder", "variables", "base", "machine", "cpus", "disk_gb", "from", "to", "packages", *KINDS]
KEYS += ["requirements", "project", "groups", "extras"]
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4),
    max_leaves=12,
)


@UNCHANGED
@given(tables=st.dictionaries(st.sampled_from(KEYS), anything, max_size=6))
def test_any_tables_are_a_recipe_or_told(folder: Path, tables: dict[str, Any]) -> None:
    text = "".join(f"{toml(key)} = {toml(value)}\n" for key, value in tables.items())
    found = outcome(folder, text.encode())
    assert isinstance(found, Recipe) or all(problem.isprintable() for problem in found.problems)


def toml(value: Any) -> str:
    """Write a value as TOML, inline."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def test_the_folder_of_recipes_is_the_one_that_is_shipped() -> None:
    assert (IMAGES / "jupyter.toml").exists()


def test_a_copy_of_boosting_changed_as_the_documents_say_is_a_recipe(folder: Path) -> None:
    page = (IMAGES.parent / "docs/recipes.md").read_text(encoding="utf-8")
    changed = page.partition("```diff\n")[2].partition("```")[0].splitlines()
    text = (IMAGES / "boosting.toml").read_text(encoding="utf-8")
    for before, after in zip(changed[::2], changed[1::2], strict=True):
        assert (before[0], after[0], text.count(f"{before[1:]}\n")) == ("-", "+", 1)
        text = text.replace(before[1:], after[1:])
    (folder / "trees.toml").write_text(text, encoding="utf-8")
    steps = [step.python for step in load(folder / "trees.toml").steps if step.python]
    packages = {package for step in steps for package in step.packages or ()}
    assert len(changed) == 6
    assert {"statsmodels", "vowpalwabbit"} < packages
    assert [name for name in ("xgboost-cpu", "xgboost") if name in packages or any(name in step.imports for step in steps)] == []


def test_first_steps_of_boosting_are_those_of_jupyter() -> None:
    jupyter, boosting = (load(IMAGES / f"{name}.toml") for name in ("jupyter", "boosting"))
    assert jupyter.steps[:2] == boosting.steps[:2]
