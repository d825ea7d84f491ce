import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import clouds
from clouds import settings
from clouds.accounts import account_key
from clouds.errors import UsageError
from clouds.gcp.places import places
from clouds.home import home


@pytest.fixture(autouse=True)
def nimbus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a cloud that has settings, whatever the environment of the tests says."""
    for name in list(clouds.DRIVERS):
        monkeypatch.delitem(clouds.DRIVERS, name)
    for name, package in {"local": "clouds.local", "nimbus": "tests.nimbus"}.items():
        monkeypatch.setitem(clouds.DRIVERS, name, package)
    for name in ("NIMBUS_PROJECT", "OLD_NIMBUS_PROJECT", "NIMBUS_SIZE", "NIMBUS_PATIENCE"):
        monkeypatch.delenv(name, raising=False)


def write(text: str) -> Path:
    path = settings.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refused(text: str) -> list[str]:
    """Write a settings file; return its problems, without the file name."""
    path = write(text)
    with pytest.raises(UsageError) as raised:
        settings.load("nimbus", {})
    lines = raised.value.message.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def test_without_a_file_each_setting_has_its_default() -> None:
    assert settings.load("nimbus", {}) == {"project": "", "zone": "middle-1", "machine_size": "", "patience": ""}


def test_a_flag_holds_before_the_environment_that_before_the_file_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('[nimbus]\nproject = "of-file"\nzone = "of-file"\n')
    assert settings.load("nimbus", {})["zone"] == "of-file"
    monkeypatch.setenv("OLD_NIMBUS_PROJECT", "of-environment")
    assert settings.load("nimbus", {})["project"] == "of-environment"
    monkeypatch.setenv("NIMBUS_PROJECT", "of-first-variable")
    assert settings.load("nimbus", {})["project"] == "of-first-variable"
    assert settings.load("nimbus", {"project": "of-flag"})["project"] == "of-flag"


def test_connecting_hands_the_settings_to_the_driver() -> None:
    write('[nimbus]\nproject = "mine"\n')
    expected = {"project": "mine", "zone": "far-2", "machine_size": "", "patience": ""}
    assert clouds.connect("nimbus", {"zone": "far-2"}) == (home(), expected)  # type: ignore[comparison-overlap]


def test_a_flag_of_which_the_cloud_knows_nothing_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        clouds.connect("local", {"zone": "far-2", "machine_size": "8"})
    assert raised.value.message.splitlines() == [
        "--zone: not supported by cloud 'local' (leave it out, or choose another --cloud)",
        "--machine-size: not supported by cloud 'local' (leave it out, or choose another --cloud)",
    ]


def test_all_that_is_wrong_with_the_file_is_told_at_once_with_what_to_write_instead() -> None:
    assert refused(
        'cloud = "nimbos"\nnimbu = 1\nlocal = 3\n[nimbus]\nzonne = "a"\nproject = 7\nmachine_size = ""\n[local]\n'[:-8]
    ) == [
        "cloud: unknown cloud 'nimbos' (write nimbus)",
        "nimbu: unknown cloud or setting (write nimbus)",
        "local: 3 is not a table (write [local], and its settings in the lines below)",
        "nimbus.zonne: unknown setting (write zone)",
        "nimbus.project: 7 is not a string (write it in quotes)",
        "nimbus.machine_size: is empty (write a value, or leave the line out)",
    ]


def test_a_setting_that_is_like_no_other_lists_those_there_are() -> None:
    assert refused('[nimbus]\nxyzzy = "a"\n') == [
        "nimbus.xyzzy: unknown setting (write project or zone or machine_size or patience)"
    ]
    assert refused('[local]\nzone = "a"\n') == ["local.zone: unknown setting (write accelerator)"]


PATIENCE = "is not a number from 0.5 to 100 (write one such as 1)"


@pytest.mark.parametrize("value", ["fast", "nan", "inf", "-1", "0.1", "1e9", "1_0", "٣", "1 h"])
def test_value_out_of_range_is_refused_with_the_place_where_it_was_given(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(f'[nimbus]\npatience = "{value}"\n') == [f"nimbus.patience: {value!r} {PATIENCE}"]
    settings.config_file().unlink()
    monkeypatch.setenv("NIMBUS_PATIENCE", value)
    with pytest.raises(UsageError) as raised:
        settings.load("nimbus", {})
    assert raised.value.message == f"NIMBUS_PATIENCE: {value!r} {PATIENCE}"
    with pytest.raises(UsageError) as raised:
        settings.load("nimbus", {"patience": value})
    assert raised.value.message == f"--patience: {value!r} {PATIENCE}"


def test_all_values_that_are_wrong_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIMBUS_PATIENCE", "long")
    with pytest.raises(UsageError) as raised:
        settings.load("nimbus", {"machine_size": "huge"})
    assert raised.value.message.splitlines() == [
        "--machine-size: 'huge' is not one of the choices (write small or large)",
        f"NIMBUS_PATIENCE: 'long' {PATIENCE}",
    ]


def test_value_of_another_type_is_one_line_in_the_file() -> None:
    for value in ("3", "true", "[1]", "{ a = 1 }", "1979-05-27", "nan"):
        (problem,) = refused(f"[nimbus]\npatience = {value}\n")
        assert problem.startswith("nimbus.patience: ")
        assert problem.endswith(" is not a string (write it in quotes)")


def test_variable_that_names_no_cloud_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_CLOUD", "nimbos")
    for ask in (clouds.default, clouds.configured, clouds.connect):
        with pytest.raises(UsageError, match=r"^BAKEHOUSE_CLOUD: unknown cloud 'nimbos' \(write nimbus\)$"):
            ask()


REAL = [(cloud, key) for cloud in ("local", "gcp") for key in import_module(f"clouds.{cloud}").SETTINGS]


@pytest.mark.parametrize(("cloud", "key"), REAL)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_any_value_of_a_real_cloud_is_taken_or_refused_with_its_key(cloud: str, key: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(clouds.DRIVERS, cloud, f"clouds.{cloud}")
        for setting in import_module(f"clouds.{cloud}").SETTINGS.values():
            for name in setting.environment:
                patch.delenv(name, raising=False)
        project = {"project": "mine"} if cloud == "gcp" else {}
        try:
            clouds.connect(cloud, {**project, key: value})
        except UsageError as error:
            assert error.message.startswith(f"--{key.replace('_', '-')}: ")
            assert len(error.message.splitlines()) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("project", "example.com:my-project"),
        ("project", "123456789012"),
        ("zone", "europe-west1-b"),
        ("zone", "us-central1-ai1a"),
        ("region", "northamerica-northeast2"),
        ("network", "default"),
        ("source", "203.0.113.7"),
        ("source", "2001:db8::/32"),
        ("service_account", "baker@my-project.iam.gserviceaccount.com"),
        ("service_account", "default"),
        ("slowness", "2.5"),
        ("endpoint", "http://127.0.0.1:8080"),
    ],
)
def test_good_values_of_compute_engine_are_taken(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "gcp", "clouds.gcp")
    assert settings.load("gcp", {key: value})[key] == value


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("project", "My Project", "write its id"),
        ("zone", "us-central1", "such as us-central1-a"),
        ("zone", "us-central1-ai1", "such as us-central1-a"),
        ("zone", "us-central1-xai1a", "such as us-central1-a"),
        ("region", "us-central1-a", "such as us-central1"),
        ("network", "a b", "write its name"),
        ("subnet", "regions/x/y", "write its name"),
        ("source", "203.0.113.700", "such as 203.0.113.7"),
        ("service_account", "baker", "write its e-mail address"),
        ("slowness", "fast", "such as 1"),
        ("endpoint", "https://example.com", "http://127.0.0.1:PORT"),
        ("endpoint", "http://127.0.0.1:99999", "http://127.0.0.1:PORT"),
        ("endpoint", "http://[::1", "http://127.0.0.1:PORT"),
    ],
)
def test_bad_values_of_compute_engine_say_what_to_write(
    key: str, value: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "gcp", "clouds.gcp")
    file = write(f'[gcp]\n{key} = "{value}"\n')
    with pytest.raises(UsageError) as raised:
        settings.load("gcp", {})
    assert raised.value.message.startswith(f"{file}: gcp.{key}: {value!r} is ")
    assert instead in raised.value.message


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("debian_owner", "12", "(write its number of 12 digits, such as 136693071363)"),
        ("ubuntu_owner", "canonical", "(write its number of 12 digits"),
        ("scheduler_role", "bakehouse-stop", "(write one such as arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:aws:iam::12:role/bakehouse-stop", "arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:aws:iam::111122223333:user/me", "arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:aws:sts::111122223333:assumed-role/stop/me", "arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:aws:iam::111122223333:role//", "arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:aws:iam::111122223333:role/stop/", "arn:aws:iam::111122223333:role/bakehouse-stop"),
        ("scheduler_role", "arn:awsx:iam::111122223333:role/stop", "arn:aws:iam::111122223333:role/bakehouse-stop"),
    ],
)
def test_bad_values_of_ec2_say_what_to_write(key: str, value: str, instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "aws", "clouds.aws")
    file = write(f'[aws]\n{key} = "{value}"\n')
    with pytest.raises(UsageError) as raised:
        settings.load("aws", {})
    assert raised.value.message.startswith(f"{file}: aws.{key}: {value!r} is not ")
    assert instead in raised.value.message


@pytest.mark.parametrize(
    "role", ["arn:aws:iam::111122223333:role/a", "arn:aws-us-gov:iam::111122223333:role/service-role/team/a+b"]
)
def test_role_may_have_a_path_and_be_of_another_partition(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "aws", "clouds.aws")
    write(f'[aws]\nscheduler_role = "{role}"\n')
    assert settings.load("aws", {})["scheduler_role"] == role


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ('[gcp]\nzonne = "a"\n', "docs/clouds.md, under Google Cloud, Set up"),
        ('[aws.research]\nregion = 7\n[gcp]\nzonne = "a"\n', "docs/clouds.md, under AWS"),
        ('[local]\naccelerator = "xen"\n', "docs/hosts.md, under KVM"),
        ("local = 3\n", "README.md, under Settings"),
        ('clout = "gcp"\n[gcp]\nzonne = "a"\n', "README.md, under Settings"),
    ],
)
def test_problems_of_a_file_name_one_page(text: str, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for cloud in ("gcp", "aws"):
        monkeypatch.setitem(clouds.DRIVERS, cloud, f"clouds.{cloud}")
    write(text)
    with pytest.raises(UsageError) as raised:
        settings.load("local", {})
    assert raised.value.next_step == f"See {page}."


def test_a_file_that_is_not_utf_8_is_refused_as_such() -> None:
    path = write("")
    path.write_bytes('[nimbus]\nproject = "münchen"\n'.encode("latin-1"))
    with pytest.raises(UsageError) as raised:
        settings.load("nimbus", {})
    assert (raised.value.message, raised.value.next_step) == (f"{path}: is not UTF-8 text", "Save the file as UTF-8.")


def test_what_is_no_toml_is_told_with_its_place() -> None:
    (problem,) = refused("cloud = \n")
    assert "line 1" in problem


def test_the_cloud_of_the_environment_holds_before_that_of_the_file_and_that_before_the_local_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert clouds.default() == "local"
    write('cloud = "nimbus"\n')
    assert clouds.default() == "nimbus"
    monkeypatch.setenv("BAKEHOUSE_CLOUD", "local")
    assert clouds.default() == "local"


def test_without_a_name_the_default_cloud_is_connected() -> None:
    write('cloud = "nimbus"\n')
    assert clouds.connect() == (home(), settings.load("nimbus", {}))  # type: ignore[comparison-overlap]


def test_a_cloud_is_configured_when_the_file_or_the_environment_tells_something_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not settings.is_configured("nimbus")
    monkeypatch.setenv("NIMBUS_PROJECT", "mine")
    assert settings.is_configured("nimbus")
    monkeypatch.delenv("NIMBUS_PROJECT")
    write('[nimbus]\nzone = "far-2"\n')
    assert settings.is_configured("nimbus")


def test_the_clouds_in_use_are_the_default_one_and_those_with_a_store_or_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "stratus", "tests.nimbus")
    monkeypatch.setenv("BAKEHOUSE_CLOUD", "stratus")
    assert clouds.configured() == ["stratus"]
    (home() / "local").mkdir()
    write('[nimbus]\nproject = "mine"\n')
    assert clouds.configured() == ["local", "nimbus", "stratus"]


TWO = '[nimbus]\nproject = "shared"\nzone = "far-2"\n[nimbus.research]\nproject = "research-123"\n'


def test_account_has_its_own_settings_and_lacks_those_of_its_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    write(TWO)
    assert settings.load("nimbus", {}) == {"project": "shared", "zone": "far-2", "machine_size": "", "patience": ""}
    assert settings.load("nimbus.research", {}) == {"project": "research-123", "zone": "far-2", "machine_size": "", "patience": ""}
    monkeypatch.setenv("NIMBUS_PROJECT", "of-environment")
    assert settings.load("nimbus", {})["project"] == "of-environment"
    assert settings.load("nimbus.research", {})["project"] == "research-123"  # it was asked for by name
    assert settings.load("nimbus.research", {"project": "of-flag"})["project"] == "of-flag"


def test_account_can_be_the_default_one() -> None:
    write(f'cloud = "nimbus.research"\n{TWO}')
    assert clouds.default() == "nimbus.research"
    assert refused(f'cloud = "nimbus.reserach"\n{TWO}') == ["cloud: unknown cloud 'nimbus.reserach' (write nimbus.research)"]


def test_account_that_the_file_does_not_name_is_refused_with_those_it_does() -> None:
    write(TWO)
    with pytest.raises(UsageError, match="unknown account 'other' of nimbus") as raised:
        settings.load("nimbus.other", {})
    assert "nimbus, nimbus.research" in raised.value.next_step
    with pytest.raises(UsageError, match=r"'nosuch\.x'"):
        clouds.connect("nosuch.x")


def test_what_is_wrong_with_an_account_is_told_with_its_place() -> None:
    assert refused('[nimbus.research]\nzonne = "a"\nproject = 7\n[nimbus."My Lab"]\n[nimbus.zone]\n') == [
        "nimbus.research.zonne: unknown setting (write zone)",
        "nimbus.research.project: 7 is not a string (write it in quotes)",
        "nimbus.My Lab: invalid account name (write a to z, 0 to 9 and '-', starting with a letter)",
        "nimbus.zone: {} is not a string (write it in quotes)",
    ]


def test_accounts_are_among_the_clouds_in_use() -> None:
    write(TWO)
    assert clouds.configured() == ["local", "nimbus", "nimbus.research"]
    write('[nimbus.research]\nproject = "research-123"\n')
    (home() / "nimbus").mkdir()
    assert clouds.configured() == ["local", "nimbus.research"]


def test_driver_of_an_account_bears_its_name_and_keeps_its_state_by_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "gcp", "clouds.gcp")
    write('[gcp.research]\nproject = "research-123"\n')
    cloud = clouds.connect("gcp.research")
    assert (cloud.name, cloud.account, account_key(cloud)) == ("gcp.research", "research-123", "gcp.research-123")


def test_the_file_lies_in_the_users_config_folder_or_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings.config_file() == tmp_path / "config/bakehouse/config.toml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAKEHOUSE_CONFIG", "my.toml")
    assert settings.config_file() == tmp_path / "my.toml"


def test_named_file_that_is_missing_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BAKEHOUSE_CONFIG", str(tmp_path / "my.toml"))
    with pytest.raises(UsageError, match=r"BAKEHOUSE_CONFIG: .*/my\.toml not found"):
        settings.load("nimbus", {})
    (tmp_path / "my.toml").touch()
    settings.load("nimbus", {})


@pytest.mark.parametrize("cloud", ["local", "gcp", "aws"])
def test_wrong_setting_names_a_page_that_explains_it(monkeypatch: pytest.MonkeyPatch, cloud: str) -> None:
    monkeypatch.setitem(clouds.DRIVERS, cloud, f"clouds.{cloud}")
    wrong = {"accelerator": "nonsense"} if cloud == "local" else {"slowness": "nonsense"}
    write(f"[{cloud}]\n")
    with pytest.raises(UsageError) as refused:
        settings.load(cloud, wrong)
    page = refused.value.next_step.removeprefix("See ").partition(", under ")[0]
    assert next(iter(wrong)) in (Path(__file__).parents[2] / page).read_text()


def test_a_file_that_cannot_be_read_is_a_usage_error() -> None:
    settings.config_file().mkdir(parents=True)
    with pytest.raises(UsageError, match="Is a directory") as raised:
        settings.load("nimbus", {})
    assert raised.value.next_step


def test_the_settings_of_the_local_cloud_are_known_without_its_driver() -> None:
    script = (
        "import sys; from clouds.settings import load; print(load('local', {}));"
        "print([name for name in sys.modules if name.startswith(('clouds.local.', 'qemu'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{'accelerator': ''}", "[]"]


FILE, VARIABLE, FLAG, ACCOUNT = "file", "variable", "flag", "account"
STRENGTH = [FLAG, ACCOUNT, VARIABLE, FILE]
"""Where a setting can come from, the strongest first."""


def place(monkeypatch: pytest.MonkeyPatch, *, zone: str, region: str) -> dict[str, str]:
    """Load a zone in Europe and a region in America, each from the source that is named."""
    monkeypatch.setitem(clouds.DRIVERS, "gcp", "clouds.gcp")
    values = {"zone": (zone, "europe-west1-c"), "region": (region, "us-central1")}
    lines = {source: [f'{key} = "{value}"' for key, (where, value) in values.items() if where == source] for source in STRENGTH}
    write("\n".join(["[gcp]", *lines[FILE], "[gcp.other]", *lines[ACCOUNT], ""]))
    for key, (where, value) in values.items():
        if where == VARIABLE:
            monkeypatch.setenv(f"CLOUDSDK_COMPUTE_{key.upper()}", value)
    return settings.load("gcp.other", {key: value for key, (where, value) in values.items() if where == FLAG})


@pytest.mark.parametrize("zone", STRENGTH)
@pytest.mark.parametrize("region", STRENGTH)
def test_stronger_of_a_zone_and_a_region_that_contradict_each_other_holds(
    zone: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = place(monkeypatch, zone=zone, region=region)
    if zone == region:
        with pytest.raises(UsageError, match="zone 'europe-west1-c' is not in region 'us-central1'"):
            places({**loaded, "project": "demo"})
        return
    wins = STRENGTH.index(zone) < STRENGTH.index(region)
    assert (loaded["zone"], loaded["region"]) == (("europe-west1-c", "") if wins else ("", "us-central1"))
    assert places({**loaded, "project": "demo"}).region == ("europe-west1" if wins else "us-central1")


def test_zone_of_a_weaker_source_that_is_in_the_region_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(clouds.DRIVERS, "gcp", "clouds.gcp")
    write('[gcp]\nzone = "us-central1-f"\n')
    loaded = settings.load("gcp", {"region": "us-central1"})
    assert places({**loaded, "project": "demo"}).zone == "us-central1-f"
