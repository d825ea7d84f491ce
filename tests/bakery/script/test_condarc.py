"""The user's .condarc: what is wrong in it is an error with file and key, before anything is read from a channel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bakery.plan import plan
from bakery.recipe.recipe import Recipe, load
from bakery.script import conda
from bakery.script.channels import channel_urls
from clouds.errors import UsageError
from tests.fake_cloud import FakeCloud
from tests.fake_world import World


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CONDARC", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Load a recipe that leaves the channels to the user."""
    path = tmp_path / "lab.toml"
    path.write_text('name = "lab"\n[[steps]]\nname = "env"\nconda = ["apple"]\n')
    return load(path)


@pytest.mark.parametrize(
    "place",
    [
        "https://me:geheim@example.org/c",
        "https://me:ge/heim@example.org/c",
        "https://example.org/t/geheim/c",
        "https://example.org/conda/t/geheim/c",
    ],
)
@pytest.mark.parametrize("settings", ["channels: ['{}']", "channel_alias: '{}'", "default_channels: ['{}']\nchannels: [defaults]"])
def test_a_channel_with_a_password_is_refused_without_it(home: Path, recipe: Recipe, place: str, settings: str) -> None:
    (home / ".condarc").write_text(settings.format(place))
    with pytest.raises(UsageError, match=r"a user name, a password or a token, which would stay") as caught:
        conda.gather(recipe)
    assert "heim" not in str(caught.value)


def test_a_token_in_the_name_of_a_channel_is_refused_without_it(home: Path, recipe: Recipe) -> None:
    (home / ".condarc").write_text("channels: [t/geheim/lab]\n")
    with pytest.raises(UsageError, match=r"/t/\*\*\*/lab: contains a token") as caught:
        conda.gather(recipe)
    assert "geheim" not in str(caught.value)


def test_a_list_of_nodefaults_alone_leaves_the_channels_to_the_next_place() -> None:
    assert channel_urls("step", ["nodefaults"], {}) == channel_urls("step", ["conda-forge"], {})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("channels: conda-forge", 'channels: is "conda-forge", not a list (write it in [ ])'),
        ("channels: [null]", "channels[0]: is null, not text (remove it)"),
        ("channels: [a, 5]", "channels[1]: is 5, not text (write it in quotes)"),
        ("channels: {a: b}", "channels: is a table, not a list"),
        ("channel_alias: 5", "channel_alias: is 5, not text (write it in quotes)"),
        ("channel_alias: [a]", "channel_alias: is a list, not text"),
        ("custom_channels: [a]", "custom_channels: is a list, not a table"),
        ("custom_channels: {a: 5}", "custom_channels.a: is 5, not text"),
        ("default_channels: [null]", "default_channels[0]: is null, not text"),
        ("channels: ['ftp://example.org/c']", 'channels[0]: "ftp://example.org/c" is an address with ftp://'),
        ("channels: ['file:///srv/c']", 'channels[0]: "file:///srv/c" is on this computer, where the builder cannot read it'),
        ("channels: [/srv/c]", 'channels[0]: "/srv/c" is on this computer'),
        ("channels: ['a b']", 'channels[0]: "a b" is not a conda channel (write one such as "conda-forge"'),
        ("channels: ['http://']", 'channels[0]: "http://" is not a URL'),
        (
            "channel_alias: example.org",
            'channel_alias: "example.org" is not a URL (write one such as "https://conda.anaconda.org")',
        ),
        ("custom_channels: {conda-forge: /srv}", 'custom_channels.conda-forge: "/srv" is not a URL'),
        ("- conda-forge", "is a list, not keys with values (write lines such as `channels: [conda-forge]`)"),
        ("channels: [a\nssl_verify: true", "line 2: is not valid YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("channels: [\x07]", "is not UTF-8 text, or contains characters that YAML does not allow"),
    ],
)
def test_a_wrong_file_is_reported_with_its_key(tmp_path: Path, home: Path, recipe: Recipe, settings: str, reason: str) -> None:
    (home / ".condarc").write_text(settings)
    with pytest.raises(UsageError, match=re.escape(f"recipe 'lab': step 'env': {home / '.condarc'}: {reason}")) as caught:
        conda.gather(recipe)
    assert caught.value.next_step.startswith("Correct the file")


def test_plan_reports_it_too(tmp_path: Path, home: Path, recipe: Recipe) -> None:
    (home / ".condarc").write_text("channels: [5]")
    with pytest.raises(UsageError, match=r"\.condarc: channels\[0\]: is 5"):
        plan(FakeCloud(World(tmp_path / "world")), recipe, home=tmp_path)


def test_a_file_that_cannot_be_read_is_an_error(home: Path, recipe: Recipe) -> None:
    (home / ".condarc").mkdir()
    with pytest.raises(UsageError, match=r"\.condarc: cannot be read: Is a directory"):
        conda.gather(recipe)


def test_places_that_no_channel_of_the_recipe_uses_may_be_private_or_local(home: Path, recipe: Recipe) -> None:
    places = "{private: 'https://me:geheim@example.org', local: /srv, mine: 'https://example.org/'}"
    (home / ".condarc").write_text(f"channels: [mine, nodefaults]\ncustom_channels: {places}\nchannel_alias:\nssl_verify: x\n")
    wanted = conda.gather(recipe)
    assert wanted
    assert wanted.channels == ("https://example.org/mine",)
