"""The fake cloud as one that keeps each image in a region; what it lists holds the images of other regions too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clouds.driver import Kind, Resource, State
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

HERE, ELSEWHERE = "west", "east"


class RegionalCloud(FakeCloud):
    """A client, in the region HERE, of a `World`; `elsewhere` has the images of another region."""

    image_region = HERE

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.elsewhere: list[Resource] = []

    def copy_elsewhere(self, name: str) -> None:
        """Let the other region have a copy of an image as it is now."""
        image = self.world.images[name]
        self.elsewhere.append(Resource(Kind.IMAGE, name, State.READY, dict(image.labels), image.created_at, zone=ELSEWHERE))

    def move_elsewhere(self, name: str) -> None:
        """Let only the other region have an image."""
        self.copy_elsewhere(name)
        del self.world.images[name]

    def find(self, kind: Kind, name: str) -> Resource | None:
        others, self.elsewhere = self.elsewhere, []
        try:
            return super().find(kind, name)
        finally:
            self.elsewhere = others

    def _resources(self) -> Iterator[Resource]:
        yield from self.elsewhere
        for resource in super()._resources():
            yield replace(resource, zone=HERE) if resource.kind is Kind.IMAGE else resource
