"""How fast a run is: images/s per server, images per class, time left. Built from events; no I/O.

throughput = Throughput(classes={"bat": 30, "bear": 30}, existing={"bat": 3})
throughput.take(event)
throughput.eta_s(time.time())
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from . import events

_WINDOW_JOBS = 32  # the speed of a server is that of its last 32 jobs


@dataclass(frozen=True)
class ServerThroughput:
    """A server in a run: `images` it made, `jobs` on it now, `reason` why it is not up.

    `state` is "starting", "up", or one of the states of events.ServerDown.
    """

    name: str
    state: str
    images: int
    images_per_s: float
    jobs: int
    reason: str = ""


@dataclass
class _Server:
    """One server's counts. Speed is measured between the ends of jobs, from the first end on.

    The first job includes loading the model, which does not happen again.
    """

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
        # Longer than usual since the last job: the server has become slower.
        late = max(0.0, now - last - 2 * usual)
        return (images_now - images_then) / (last - first + late) if last > first else 0.0


class Throughput:
    """The counts of one run: `classes` and `existing` are planned and existing images per class."""

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
        """Planned images per class."""
        return self._planned

    @property
    def done_by_class(self) -> Mapping[str, int]:
        """Images per class that exist now; a live view."""
        return MappingProxyType(self._done)

    def take(self, event: events.AnyEvent) -> None:
        """Adds one event."""
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
        """The state of each server at a time in seconds since 1970."""
        return tuple(
            ServerThroughput(
                name, each.state, each.images, each.images_per_s(now), len(each.jobs), each.reason
            )
            for name, each in self._servers.items()
        )

    def images_per_s(self, now: float) -> float:
        """The combined speed of all servers that are up."""
        return sum(each.images_per_s(now) for each in self._servers.values())

    def eta_s(self, now: float) -> float | None:
        """Seconds until every image exists, at the present speed; None while that is unknown."""
        speed = self.images_per_s(now)
        return max(0, self.total - self.done - self.failed) / speed if speed > 0 else None
