"""Whatever is typed as a value of whichever verb: an error that names it, or an answer, and never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import clouds
from clouds.errors import DeniedError, UsageError
from launcher.command.flags import Verb
from tests.cli.edges import ODD_WORDS, PRODUCT, is_refused, run, typed_for
from tests.fake_remote import RemoteCloud
from tests.fake_world import World

VALUES = [
    (verb, name)
    for verb in PRODUCT.values()
    for name in [one.name for one in verb.positionals] + [flag.name for flag in verb.flags if flag.parse]
]
CASES = len(VALUES) * len(ODD_WORDS)


@pytest.mark.matrix(sample=20, edges=["launch-recipe", "images-recipe", "bake-recipe"])
@pytest.mark.parametrize(("verb", "name"), VALUES, ids=lambda one: one.name if isinstance(one, Verb) else one)
def test_odd_value_is_refused_or_taken(verb: Verb, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong: list[str] = []
    for case, word in ODD_WORDS.items():
        world = World(tmp_path / "world")
        cloud = RemoteCloud(world)
        cloud.fault("resolve_base", error=DeniedError("not permitted", next_step="Log in."), nth=None)
        monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None, cloud=cloud: cloud)
        ended = run(verb, **typed_for(verb, {}, {"recipe": "minimal"}) | {key_of(verb, name): word})
        found = ended.problems()
        if is_refused(verb, name, word) and ended.code != UsageError.exit_code:
            found.append("not refused as a wrong use")
        if found:
            wrong.append(f"{case}: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)


def key_of(verb: Verb, name: str) -> str:
    return next((flag.key for flag in verb.flags if flag.name == name), name)
