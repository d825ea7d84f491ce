"""What check-gpu decides in a machine: from facts, and from the files of a machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bakery.errors import RecipeError
from bakery.plan import describe_test
from bakery.recipe.recipe import Recipe, load
from bakery.script.render import render, render_tests
from bakery.script.resolve import Resolution

KERNEL, NEWER = "6.12.43+deb13-amd64", "6.12.48+deb13-amd64"
RECIPE = replace(load("minimal"), gpu=True)


def program() -> str:
    """Return the program as the script of a bake writes it into the image."""
    [found] = re.findall(r"^cat >/usr/local/bin/check-gpu <<'FILE'\n(.*?)^FILE$", render(RECIPE, Resolution({})).text, re.M | re.S)
    return str(found)


@pytest.fixture(scope="module")
def check_gpu() -> ModuleType:
    """Give the program as a module."""
    module = ModuleType("check_gpu")
    sys.modules["check_gpu"] = module  # where dataclasses looks
    exec(compile(program(), "check-gpu", "exec"), module.__dict__)
    return module


@pytest.fixture
def decide(check_gpu: ModuleType) -> Callable[..., tuple[int, str]]:
    """Give what it decides on a machine that fits, except for what is named."""

    def decided(**changes: Any) -> tuple[int, str]:
        facts: dict[str, Any] = {
            "vendor": "Google",
            "kernel": KERNEL,
            "drivers": {KERNEL: "550.163.01"},
            "cuda": "12.9.79",
            "has_gpu": True,
            "devices": ("/dev/nvidia0",),
            "smi": "Tesla T4, 550.163.01\n",
            "smi_status": 0,
        }
        found: tuple[int, str] = check_gpu.decide(check_gpu.Facts(**(facts | changes)))
        return found

    return decided


Decide = Callable[..., tuple[int, str]]


def test_what_fits_is_reported_with_its_versions(decide: Decide) -> None:
    assert decide() == (0, "GPU Tesla T4, 550.163.01; CUDA 12.9.79")
    two = "Tesla T4, 550.163.01\nTesla T4, 550.163.01\n"
    assert decide(smi=two, cuda="") == (0, "GPU Tesla T4, 550.163.01; Tesla T4, 550.163.01; CUDA not installed")


@pytest.mark.parametrize(
    ("driver", "cuda", "needed"),
    [("470.256.02", "12.9.79", 525), ("550.163.01", "13.0.96", 580), ("418.226.00", "11.8.89", 450), ("524.99", "12.0.1", 525)],
)
def test_a_driver_that_is_too_old_is_told_with_the_one_that_is_needed(decide: Decide, driver: str, cuda: str, needed: int) -> None:
    told = f"NVIDIA driver {driver} is too old for CUDA {cuda}, which needs {needed} or newer"
    assert decide(drivers={KERNEL: driver}, cuda=cuda) == (1, told)
    assert decide(drivers={KERNEL: driver}, cuda=cuda, has_gpu=False) == (1, told)  # a bake tells it, without a GPU


@pytest.mark.parametrize(("driver", "cuda"), [("525.60.13", "12.9.79"), ("580.65.06", "13.0.96"), ("580.65.06", "12.9.79")])
def test_the_oldest_driver_and_newer_ones_fit(decide: Decide, driver: str, cuda: str) -> None:
    assert decide(drivers={KERNEL: driver}, cuda=cuda)[0] == 0


@pytest.mark.parametrize("has_gpu", [True, False])
def test_a_kernel_for_which_the_driver_is_not_built_is_told_with_the_headers_that_it_needs(decide: Decide, has_gpu: bool) -> None:
    status, line = decide(kernel=NEWER, has_gpu=has_gpu)
    assert status == 1
    built = f"the NVIDIA driver is built for kernel {KERNEL}, but {NEWER} is running"
    assert line == f"{built}: install its modules for that, or linux-headers-{NEWER}"


def test_a_machine_without_a_gpu_is_neither_good_nor_bad(decide: Decide) -> None:
    assert decide(has_gpu=False, devices=(), smi="", smi_status=9) == (77, "no GPU here")


def test_an_image_without_a_driver_is_told(decide: Decide) -> None:
    status, line = decide(drivers={}, has_gpu=False)
    assert (status, "the image has no NVIDIA driver" in line) == (1, True)


def test_a_machine_on_the_users_computer_needs_no_driver_but_one_that_fits(decide: Decide) -> None:
    assert decide(vendor="QEMU", drivers={}, has_gpu=False)[0] == 77
    assert decide(vendor="QEMU", drivers={KERNEL: "470.256.02"}, has_gpu=False)[0] == 1


@pytest.mark.parametrize("changes", [{"smi_status": 9}, {"devices": ()}])
def test_a_gpu_that_does_not_respond_is_told_in_nvidia_smi_s_words(decide: Decide, changes: dict[str, Any]) -> None:
    mismatch = "Failed to initialize NVML: Driver/library version mismatch"
    assert decide(smi=mismatch, **changes) == (1, f"the GPU does not respond: {mismatch}")


@pytest.mark.parametrize(
    ("vendor", "kind", "found"), [("0x10de", "0x030200", True), ("0x10de", "0x040300", False), ("0x1af4", "0x030000", False)]
)
def test_a_gpu_is_known_by_vendor_and_class(check_gpu: ModuleType, tmp_path: Path, vendor: str, kind: str, found: bool) -> None:
    (tmp_path / "vendor").write_text(f"{vendor}\n")
    (tmp_path / "class").write_text(f"{kind}\n")
    assert check_gpu.is_gpu(tmp_path) is found


def test_facts_are_read_on_any_machine(check_gpu: ModuleType) -> None:
    facts = check_gpu.read()
    assert facts.kernel
    assert check_gpu.decide(facts)[0] in (0, 1, 77)


def test_the_image_of_a_recipe_with_a_gpu_has_this_test_first() -> None:
    script = render_tests(RECIPE)
    assert script is not None
    assert script.checkpoints == ("boot", "gpu", "user")
    assert "machine that tests it: gpu, user;" in "\n".join(describe_test(RECIPE, "1.0.0-1", keeps_memory=False))
    assert "check-gpu" not in render(load("minimal"), Resolution({})).text


def recipe_with_test(folder: Path, head: str) -> Recipe:
    (folder / "mine.toml").write_text(f'name = "mine"\n{head}\n[[tests]]\nname = "gpu"\nrun = "true"\n')
    return load(folder / "mine.toml")


def test_its_name_is_reserved_in_such_a_recipe_only(tmp_path: Path) -> None:
    assert [test.name for test in recipe_with_test(tmp_path, "").checks] == ["gpu"]
    with pytest.raises(RecipeError, match='"gpu" is a reserved name'):
        recipe_with_test(tmp_path, "gpu = true")
    with pytest.raises(RecipeError, match="gpu: "):
        recipe_with_test(tmp_path, 'gpu = "t4"')
