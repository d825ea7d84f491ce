"""Requirements files: read as pip reads them; what cannot work in a builder is refused by file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakery.errors import RecipeError
from bakery.recipe.local import find_package, requirements_digest
from bakery.recipe.pip_syntax import Option, Requirements, decode, logical_lines
from bakery.recipe.recipe import Recipe, load
from bakery.recipe.requirements import read
from tests.matrix import examples

HASH = "sha256:" + "0" * 64
WHEEL = "melon-1.0-py3-none-any.whl"
PASSWORD = "hunter2-correct-horse"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of a recipe, with packages beside it, and a file and a package outside of it."""
    top = tmp_path / "recipes"
    project(top / "lib")
    (top / "lib/lib.py").write_text("")
    for place in (top / "wheels", tmp_path):
        place.mkdir(exist_ok=True)
        (place / WHEEL).write_bytes(b"")
    (top / "empty").mkdir()
    (top / "sub").mkdir()
    project(tmp_path / "outside")
    return top


def project(folder: Path, text: str = '[project]\nname = "lib"\nversion = "1.0"\n') -> None:
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(text)


def said(folder: Path, text: str | bytes) -> Requirements:
    """Return what a file says, which must be right."""
    found, problems = reading(folder, text)
    assert problems == []
    return found


def reading(folder: Path, text: str | bytes) -> tuple[Requirements, list[str]]:
    (folder / "requirements.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(folder, ["requirements.txt"], "fruit")


def texts(found: Requirements) -> list[str]:
    """Return the requirements, with a path where it stands."""
    return [line.text or f"{line.before}{line.path}{line.after}" for line in found.lines]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy", ["numpy"]),
        ("# numpy\n  # pandas\n\npandas>=2  # why\n", ["pandas>=2"]),
        ("pandas [parquet] >= 2 , < 3", ["pandas[parquet]<3,>=2"]),
        ('numpy ; python_version < "3.13"', ['numpy; python_version < "3.13"']),
        ("numpy\r\npandas\r\n", ["numpy", "pandas"]),
        ("\ufeffnumpy", ["numpy"]),
        (f"numpy==1.0 \\\n    --hash={HASH} \\\n    --hash {HASH}\npandas", ["numpy==1.0", "pandas"]),
        (f"numpy==1.0 \\\r\n  --hash={HASH}\r\n", ["numpy==1.0"]),
        ("numpy \\\n  # a comment ends the line\npandas", ["numpy", "pandas"]),
        ("numpy\\", ["numpy"]),
        (f"./wheels/{WHEEL}", ["wheels/" + WHEEL]),
        (f"wheels/{WHEEL}", ["wheels/" + WHEEL]),
        (f"file:wheels/{WHEEL}", ["wheels/" + WHEEL]),
        (f"melon[a] @ ./wheels/{WHEEL} ; sys_platform == 'linux'", [f'melon[a] @ wheels/{WHEEL} ; sys_platform == "linux"']),
        ("./lib", ["lib"]),
        ("-e ./lib[x,y] ; python_version > '3'", ["-e lib[x,y] ; python_version > '3'"]),
        ("-e lib", ["-e lib"]),
        ("--editable=lib", ["-e lib"]),
        ("-elib", ["-e lib"]),
        ("melon @ https://example.org/melon.whl#sha256=00", ["melon @ https://example.org/melon.whl#sha256=00"]),
        ("https://example.org/melon-1.0.tar.gz", ["https://example.org/melon-1.0.tar.gz"]),
        ("git+https://example.org/plum.git@1.0#egg=plum", ["git+https://example.org/plum.git@1.0#egg=plum"]),
        ("--require-hashes\nnumpy", ["numpy"]),
        ("numpy # ${TOKEN} in a comment", ["numpy"]),
    ],
)
def test_line_is_read_as_pip_reads_it(folder: Path, text: str, expected: list[str]) -> None:
    assert texts(said(folder, text)) == expected


def test_hashes_belong_to_their_requirement(folder: Path) -> None:
    other = HASH[:-1] + "A"
    [line, free] = said(folder, f"numpy==1.0 --hash={HASH} --hash={other}\npandas").lines
    assert (line.package, line.hashes, free.hashes) == ("numpy", (HASH, other.lower()), ())
    assert line.where == "requirements.txt: line 1"


def test_hash_of_an_address_belongs_to_the_package_of_its_wheel(folder: Path) -> None:
    [line] = said(folder, f"https://example.org/melon-1.0%2Bcpu-py3-none-any.whl#x=y --hash={HASH}").lines
    assert (line.package, line.hashes) == ("melon", (HASH,))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_file_saved_on_windows_is_read(folder: Path, encoding: str) -> None:
    text = "numpy # größer\r\npandas\r\n"
    content = text.encode(encoding) if encoding in ("utf-8-sig", "utf-16") else ("\ufeff" + text).encode(encoding)
    assert texts(said(folder, content)) == ["numpy", "pandas"]
    assert decode(text.encode()) == text


def test_number_of_a_line_is_that_of_its_first_line() -> None:
    assert list(logical_lines("# a\nb \\\n  c\n\nd # e\n")) == [(2, "b   c"), (5, "d")]


def test_options_are_read_once_each(folder: Path) -> None:
    (folder / "dev.txt").write_text("--pre\n--no-index\n")
    found = said(
        folder,
        "-i https://example.org/simple\n--extra-index-url https://example.org/more -f wheels --find-links=https://example.org/l\n"
        "--no-binary=numpy,pandas\n--only-binary :all:\n--pre\n-r dev.txt\n--index-url=https://example.org/simple\n",
    )
    assert found.options == (
        Option("index-url", "https://example.org/simple"),
        Option("extra-index-url", "https://example.org/more"),
        Option("find-links", "wheels"),
        Option("find-links", "https://example.org/l"),
        Option("no-binary", "numpy"),
        Option("no-binary", "pandas"),
        Option("only-binary", ":all:"),
        Option("pre"),
        Option("no-index"),
    )
    assert [one.value for one in found.options if one.is_local] == ["wheels"]


def test_files_include_others_relative_to_themselves_but_packages_are_relative_to_the_first(folder: Path) -> None:
    (folder / "sub/dev.txt").write_text("-r deep.txt\n-e ./lib\n-c limits.txt\n")
    (folder / "sub/deep.txt").write_text("banana")
    (folder / "sub/limits.txt").write_text(f"apple<2 --hash={HASH}\n--pre\n-r more.txt\n")
    (folder / "sub/more.txt").write_text("cherry<1")
    found = said(folder, "apple\n-r sub/dev.txt\n--requirement=sub/deep.txt\n")
    assert texts(found) == ["apple", "banana", "-e lib", "banana"]
    assert [line.text for line in found.constraints] == ["apple<2", "cherry<1"]
    assert found.options == (Option("pre"),)
    assert [line.where for line in found.lines][1] == "sub/deep.txt: line 1"


def test_file_in_a_folder_of_its_own_names_packages_relative_to_that(folder: Path) -> None:
    project(folder / "sub/mine")
    (folder / "sub/requirements.txt").write_text("-e mine\n-e ../lib\n")
    found, problems = read(folder, ["sub/requirements.txt"], "fruit")
    assert (texts(found), problems) == (["-e sub/mine", "-e lib"], [])


def test_absolute_path_in_the_recipes_folder_is_one_in_the_recipe(folder: Path) -> None:
    wheel = folder / "wheels" / WHEEL
    found = said(folder, f"melon @ {wheel.as_uri()}\nfile://localhost{wheel}\n{wheel}\n-e {folder}/lib\n")
    assert [line.path for line in found.lines] == ["wheels/" + WHEEL] * 3 + ["lib"]
    assert [line.package for line in found.lines] == ["melon", "melon", "melon", "lib"]


REFUSED = [
    ("-e git+https://example.org/plum.git#egg=plum", "only a folder beside the recipe can be editable (remove -e: the package"),
    ("--editable git+ssh://example.org/plum.git", "only a folder beside the recipe can be editable"),
    ("-e https://example.org/plum.whl", "only a folder beside the recipe can be editable"),
    (f"-e ./wheels/{WHEEL}", f"wheels/{WHEEL} is a file; only a folder can be editable (remove -e)"),
    ("-e ./lib --config-settings=a=b", "has an option after the folder (remove it)"),
    ("-e ./nosuch", "nosuch does not exist (write the path of a file or folder next to the recipe)"),
    ("-e ./empty", "empty is a folder without pyproject.toml and setup.py (write the folder of a Python project)"),
    ("-e ../outside", "../outside is outside the recipe's folder (copy it there)"),
    ("-e /usr/lib", "/usr/lib is outside the recipe's folder, where no builder can read it (copy it there, and write a relative"),
    (f"../{WHEEL}", f"../{WHEEL} is outside the recipe's folder (copy it there)"),
    (f"melon @ file:///usr/share/{WHEEL}", f"/usr/share/{WHEEL} is outside the recipe's folder"),
    ("./requirements.txt", "requirements.txt is not a package (write a folder, or a file that ends with .whl, .tar.gz, .zip)"),
    ("./lib#subdirectory=x", "has a fragment after its path (remove #...)"),
    (".\\lib", "has a path with backslashes (write / instead)"),
    (f"melon @ https://me:{PASSWORD}@example.org/melon.whl", "contains a user name or a password, which would stay"),
    (f"git+https://{PASSWORD}@example.org/plum.git", "contains a user name or a password, which would stay in the image's log"),
    ("plum @ git+ssh://git@example.org/plum.git", "contains a user name or a password"),
    (f"--extra-index-url https://me:{PASSWORD}@example.org/simple", "(name the index in uv.toml or UV_INDEX instead)"),
    (f"--index-url=https://{PASSWORD}@example.org/simple", "contains a user name or a password"),
    (f"-f https://me:{PASSWORD}@example.org/files", "contains a user name or a password"),
    ("--extra-index-url https://${TOKEN}@example.org/simple", "takes ${TOKEN} from the environment, whose value an image must not"),
    ("melon @ https://example.org/${TOKEN}/melon.whl", "takes ${TOKEN} from the environment"),
    ("svn+https://example.org/plum", "uv installs nothing from svn+https: (write an address with http, https, git+http,"),
    ("plum @ ftp://example.org/plum.whl", "uv installs nothing from ftp:"),
    ("-i file:///srv/index", "--index-url is not an http:// or https:// address, which a builder can read (write one)"),
    ("-i /srv/index", "--index-url is not an http:// or https:// address"),
    ("--find-links file:///srv/files", "--find-links is not an http:// or https:// address"),
    ("--find-links ../", "../ is outside the recipe's folder (copy it there)"),
    ("--find-links nosuch", "nosuch does not exist"),
    (f"--find-links wheels/{WHEEL}", "is a file (write the folder of the files, or the address of a page)"),
    ("--trusted-host example.org", "--trusted-host: uv checks each certificate, and needs no permission for http:// (remove it)"),
    ("--prefer-binary", "--prefer-binary: uv has no such option"),
    ("--use-feature=fast-deps", "--use-feature: is an option of pip alone (remove it)"),
    ("--no-deps", "--no-deps: would leave dependencies out (remove it)"),
    ("--frob", "--frob is not a known option (known: -r, -c, -e, --hash, --index-url,"),
    ("--no-binary ':some:'", "--no-binary :some: is not the name of a package (write one, or :all:)"),
    ("--index-url", "--index-url has no value (write one)"),
    ("--index-url 'https://example.org", "has a quotation mark that is not closed (close it)"),
    ("-r https://example.org/requirements.txt", "names a file elsewhere (download it, and write the path of a file beside"),
    ("-r nosuch.txt", "nosuch.txt does not exist"),
    ("-r sub", "sub is a folder (write the path of a file beside the recipe)"),
    ("-r requirements.txt", "requirements.txt includes itself (remove one of the lines)"),
    ("-c ../requirements.txt", "../requirements.txt is outside the recipe's folder (copy it there)"),
    ("numpy --hash=md5:00", "has a hash other than sha256:..."),
    (f"./lib --hash={HASH}", "is a folder, which has no hash (remove --hash)"),
    (f"git+https://example.org/plum.git --hash={HASH}", "is a repository, which has no hash: its commit is pinned (remove --hash)"),
    (f"https://example.org/plum-1.0.tar.gz --hash={HASH}", "has a hash, but no name (write NAME @ and the path or address)"),
    ("numpy --global-option=x", "--global-option: is not supported by uv (remove it)"),
    ("numpy --pre", "--pre: is not an option of a requirement (write it on a line of its own)"),
    ("numpy pandas", "is not a Python package requirement (write one such as pandas>=2)"),
    ("numpy=1.0", "is not a Python package requirement"),
    ("numpy\x07", "contains a character that cannot be printed (remove it)"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_line_that_cannot_work_is_refused_by_its_number(folder: Path, line: str, reason: str) -> None:
    _, problems = reading(folder, f"numpy # the first\n\n{line}\npandas\n")
    assert len(problems) == 1
    assert problems[0].startswith("requirements.txt: line 3: ")
    assert reason in problems[0]
    assert PASSWORD not in problems[0]


def test_another_index_url_is_refused(folder: Path) -> None:
    _, problems = reading(folder, "-i https://example.org/a\n-i https://example.org/b\n")
    told = "requirements.txt: line 2: is the second --index-url, after https://example.org/a (write --extra-index-url)"
    assert problems == [told]


def test_path_is_refused_as_a_constraint(folder: Path) -> None:
    (folder / "limits.txt").write_text("-e ./lib\n")
    _, problems = reading(folder, "-c limits.txt\n")
    assert problems == ["limits.txt: line 1: a constraint cannot be a path (write a name and versions)"]


def test_all_problems_of_all_files_are_reported_with_the_key(folder: Path) -> None:
    (folder / "dev.txt").write_text("numpy\n--frob\n")
    (folder / "requirements.txt").write_text("-r dev.txt\n-e ../x\n")
    step = 'name = "fruit"\n[[steps]]\nname = "packages"\npython = { requirements = "requirements.txt" }\n'
    (folder / "fruit.toml").write_text(step)
    with pytest.raises(RecipeError) as refused:
        load(folder / "fruit.toml")
    assert [problem.partition("fruit.toml: ")[2].partition(" (")[0] for problem in refused.value.problems] == [
        "steps[0].python.requirements[0]: dev.txt: line 2: --frob is not a known option",
        "steps[0].python.requirements[0]: requirements.txt: line 2: ../x is outside the recipe's folder",
    ]


def recipe(folder: Path, python: str) -> Recipe:
    text = f'name = "fruit"\n[[steps]]\nname = "packages"\npython = {{ {python} }}\n'
    (folder / "fruit.toml").write_text(text)
    return load(folder / "fruit.toml")


@pytest.mark.parametrize(
    ("python", "told"),
    [
        ("imports = []", "python: installs nothing (write packages, requirements or project)"),
        ("requirements = []", "python.requirements: is empty (write at least one item, or remove the key)"),
        ("requirements = 3", "python.requirements: is 3, not a list (write it in [ ])"),
        ('requirements = "nosuch.txt"', "python.requirements[0]: nosuch.txt: does not exist (write the path of a file"),
        ('requirements = "lib"', "python.requirements[0]: lib: is a folder (write the path of a file beside the recipe)"),
        ('requirements = "../x.txt"', 'python.requirements[0]: "../x.txt" is not a path in the recipe\'s folder'),
        ('requirements = "binary.txt"', "python.requirements[0]: binary.txt: is not UTF-8 text (save the file as UTF-8)"),
        (
            'requirements = "comment.txt"',
            "python.requirements: installs nothing: no package in comment.txt (write one such as numpy",
        ),
        ('requirements = ["comment.txt", "options.txt"]', "installs nothing: no package in comment.txt, options.txt (write one"),
        ('project = "lib", packages = ["numpy"]', "python: has packages and project (write a separate step for the project)"),
        ('project = "empty"', 'python.project: "empty" has no pyproject.toml (write the folder of a Python project)'),
        ('project = "lib"', 'python.project: "lib" has no uv.lock (run `uv lock` in that folder; of a workspace, name'),
        ('project = "../outside"', 'python.project: "../outside" is not a path in the recipe\'s folder'),
        ('packages = ["numpy"], groups = ["dev"]', "python.groups: belongs to a project (write project, or remove it)"),
        ('packages = ["numpy"], extras = ["x"]', "python.extras: belongs to a project (write project, or remove it)"),
        ('project = "locked", groups = ["tset"]', 'python.groups[0]: "tset" is not in pyproject.toml (write "test")'),
        ('project = "locked", extras = ["plot"]', 'python.extras[0]: "plot" is not in pyproject.toml (known: none)'),
        ('project = "locked", groups = ["a b"]', 'python.groups[0]: "a b" is not the name of a group'),
        ('project = "broken"', 'python.project: "broken": uv.lock is empty or not valid TOML (run `uv lock` in that folder'),
    ],
)
def test_keys_of_a_python_step_that_do_not_work_are_told(folder: Path, python: str, told: str) -> None:
    (folder / "binary.txt").write_bytes(b"\xff\x00\x80")
    (folder / "comment.txt").write_text("# numpy\n\n")
    (folder / "options.txt").write_text("--pre\n")
    project(folder / "locked", '[project]\nname = "locked"\n[dependency-groups]\ntest = []\n')
    (folder / "locked/uv.lock").write_text("version = 1\n")
    project(folder / "broken")
    (folder / "broken/uv.lock").write_text("version = \n")
    with pytest.raises(RecipeError) as refused:
        recipe(folder, python)
    problems = [problem.partition("fruit.toml: steps[0].")[2] for problem in refused.value.problems]
    assert any(told in problem for problem in problems), problems


def test_no_message_shows_a_password(folder: Path) -> None:
    (problem,) = reading(folder, "--extra-index=https://me:geheim@example.org/simple")[1]
    assert problem.startswith("requirements.txt: line 1: --extra-index=https://***@example.org/simple is not a known option")


def test_several_files_may_be_listed_beside_packages(folder: Path) -> None:
    (folder / "a.txt").write_text("numpy")
    (folder / "b.txt").write_text("pandas")
    python = recipe(folder, 'packages = ["scipy"], requirements = ["a.txt", "b.txt"]').steps[0].python
    assert python
    assert (python.packages, python.requirements) == (("scipy",), ("a.txt", "b.txt"))


@pytest.mark.parametrize("source", ["requirements", "project"])
def test_notebook_step_finds_jupyterlab_in_files_too(folder: Path, source: str) -> None:
    (folder / "requirements.txt").write_text("-r sub/notebook.txt\n")
    (folder / "sub/notebook.txt").write_text("JupyterLab>=4 # for the notebook\n")
    project(folder / "locked")
    (folder / "locked/uv.lock").write_text('version = 1\n[[package]]\nname = "jupyterlab"\n')
    python = {"requirements": '"requirements.txt"', "project": '"locked"'}[source]
    notebook = '[[steps]]\nname = "notebook"\nnotebook = {}\n'
    text = f'name = "fruit"\n[[steps]]\nname = "packages"\npython = {{ {source} = {python} }}\n{notebook}'
    (folder / "fruit.toml").write_text(text)
    assert load(folder / "fruit.toml").has_notebook


def test_folder_is_installed_without_what_belongs_to_this_computer(folder: Path) -> None:
    for name in (".git/config", ".venv/pyvenv.cfg", "env/pyvenv.cfg", "lib.egg-info/PKG-INFO", "__pycache__/lib.pyc", ".env"):
        (folder / "lib" / name).parent.mkdir(exist_ok=True)
        (folder / "lib" / name).write_text("x")
    (folder / "lib/.venv/python").symlink_to("/usr/bin/python3")
    found = find_package(folder, "lib", "fruit")
    assert not isinstance(found, str)
    assert [str(one.below) for one in found] == [".", "lib.py", "pyproject.toml"]


def test_recipe_itself_does_not_belong_to_a_project_around_it(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "fruit.toml").write_text("")
    found = find_package(folder, ".", "fruit")
    assert not isinstance(found, str)
    names = [str(one.below) for one in found]
    assert "pyproject.toml" in names
    assert "fruit.toml" not in names


def test_link_in_a_package_is_refused(folder: Path) -> None:
    (folder / "lib/data").symlink_to("/etc/hostname")
    _, problems = reading(folder, "./lib\n")
    told = "requirements.txt: line 1: lib contains 'data', which is neither a file nor a folder (put the file itself there)"
    assert problems == [told]


def test_package_that_is_too_large_is_refused(folder: Path) -> None:
    large = folder / "lib/data"
    large.touch()
    os.truncate(large, 2**30 + 2**19)
    _, problems = reading(folder, "./lib\n")
    assert problems == ["requirements.txt: line 1: lib: data: 1024.5 MiB; a file may have 1024 MiB (move it elsewhere)"]


@pytest.mark.parametrize(
    ("pyproject", "counts"),
    [
        ('[project]\nname = "lib"\nversion = "1"\n', False),
        ('[project]\nname = "lib"\ndynamic = ["version"]\n', False),
        ('[project]\nname = "lib"\ndynamic = ["dependencies"]\n', True),
        ('[build-system]\nrequires = ["setuptools"]\n', True),
        ('[project]\nname = "lib"\ndynamic = 3\n', False),
    ],
)
def test_code_of_a_package_decides_its_dependencies_only_if_they_do_not_stand_in_pyproject(
    folder: Path, pyproject: str, counts: bool
) -> None:
    def digest() -> str:
        found = find_package(folder, "lib", "fruit")
        assert not isinstance(found, str)
        return requirements_digest(found)

    (folder / "lib/pyproject.toml").write_text(pyproject)
    before = digest()
    (folder / "lib/lib.py").write_text("changed = True\n")
    assert (digest() != before) is counts
    (folder / "lib/pyproject.toml").write_text(f"{pyproject}# changed\n")
    assert digest() != before


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.lists(
            st.sampled_from(
                ["-r ", "-e ", "./", "a/", "--hash=", "==", "@", "file:", "${A}", "\\\n", "'", "[", ";", "http://", "\0"]
            )
            | st.text(max_size=5),
            max_size=8,
        ).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass")),
    )
)
def test_any_file_is_read_or_refused_by_line(folder: Path, content: bytes) -> None:
    _, problems = reading(folder, content)
    assert all(problem.startswith("requirements.txt: ") and " (" in problem for problem in problems)
