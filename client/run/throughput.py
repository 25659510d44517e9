"""How a run is getting on: images and images/s of each server, images of each class, time left. Folded from events; no I/O.

figures = Throughput(classes={"bat": 30, "bear": 30}, existing={"bat": 3})
figures.take(event)
figures.eta_s()
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from . import events

_WINDOW_JOBS = 32  # a server's speed is that of its last so many jobs


@dataclass(frozen=True)
class ServerThroughput:
    """A server in a run: `images` brought by it, `jobs` on it now, `reason` why it is not up.

    `state` is "starting", "up", or one of those that events.ServerDown has.
    """

    name: str
    state: str
    images: int
    images_per_s: float
    jobs: int
    reason: str = ""


@dataclass
class _Server:
    """Speed is measured between ends of jobs: the first job includes loading the model, which does not happen again."""

    state: str = "starting"
    reason: str = ""
    images: int = 0
    jobs: set[str] = field(default_factory=set)
    begun: float | None = None
    ends: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_WINDOW_JOBS))

    def images_per_s(self, now: float) -> float:
        if self.state != events.UP or self.begun is None:
            return 0.0
        if len(self.ends) < 2:
            return self.images / (now - self.begun) if now > self.begun else 0.0
        (first, images_then), (last, images_now) = self.ends[0], self.ends[-1]
        usual = (last - first) / (len(self.ends) - 1)
        late = max(
            0.0, now - last - 2 * usual
        )  # longer than usual since the last job: it has become slower
        return (images_now - images_then) / (last - first + late) if last > first else 0.0


class Throughput:
    """The state of one run. `classes` says how many images of each class are planned, `existing` how many there were."""

    def __init__(self, classes: Mapping[str, int], existing: Mapping[str, int]) -> None:
        self.total = sum(classes.values())
        self.existing = sum(existing.values())
        self.made = 0
        self.failed = 0
        self._planned = MappingProxyType(dict(classes))
        self._done: Counter[str] = Counter(dict(existing))
        self._servers: dict[str, _Server] = {}

    @property
    def done(self) -> int:
        """Images in the folder."""
        return self.existing + self.made

    @property
    def planned_by_class(self) -> Mapping[str, int]:
        """How many images each class is to have."""
        return self._planned

    @property
    def done_by_class(self) -> Mapping[str, int]:
        """How many images each class has now; a live view."""
        return MappingProxyType(self._done)

    def take(self, event: events.AnyEvent) -> None:
        """Takes one event in."""
        if isinstance(event, events.RunStarted):
            for name in event.servers:
                self._servers.setdefault(name, _Server())
        elif isinstance(event, events.ImageFailed):
            self.failed += 1
        elif isinstance(event, events.ImageSaved):
            self.made += 1
            self._done[event.label] += 1
            self._server(event.server).images += 1
        elif not isinstance(event, (events.RunEnded, events.JobRetried)):
            self._take_from(self._server(event.server), event)

    def _server(self, name: str) -> _Server:
        return self._servers.setdefault(name, _Server())

    @staticmethod
    def _take_from(
        server: _Server,
        event: events.ServerUp
        | events.ServerDown
        | events.JobPosted
        | events.JobFinished
        | events.JobMoved,
    ) -> None:
        if isinstance(event, events.ServerUp):
            server.state, server.reason = events.UP, ""
        elif isinstance(event, events.ServerDown):
            server.state, server.reason = event.state, event.reason
            server.begun = None
            server.ends.clear()
        elif isinstance(event, events.JobPosted):
            server.begun = server.begun or event.at
            server.jobs.add(event.prompt_id)
        else:
            server.jobs.discard(event.prompt_id)
            if isinstance(event, events.JobFinished):
                server.ends.append((event.at, server.images))

    def servers(self, now: float) -> tuple[ServerThroughput, ...]:
        """The figures of each server at a time in seconds since 1970."""
        return tuple(
            ServerThroughput(
                name, each.state, each.images, each.images_per_s(now), len(each.jobs), each.reason
            )
            for name, each in self._servers.items()
        )

    def images_per_s(self, now: float) -> float:
        """The speed of all servers that are up, together."""
        return sum(each.images_per_s(now) for each in self._servers.values())

    def eta_s(self, now: float) -> float | None:
        """Seconds until every image is there, at the present speed; None while that is not known."""
        speed = self.images_per_s(now)
        return max(0, self.total - self.done - self.failed) / speed if speed > 0 else None
