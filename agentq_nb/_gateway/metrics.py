"""``GET /metrics``: a host's queues, limits and requests, for Prometheus. Labels are names, never keys of actors.

Written with prometheus-client: it is small, needs nothing else, and every Jupyter server has it already. Values are read
when they are asked for; nothing is counted between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentq_nb._brokers.statuses import LimitStatus, QueueStatus
from agentq_nb._core.ids import actor_name
from agentq_nb._gateway.host_calls import HostCalls
from agentq_nb._gateway.request import Request, Response, Route
from agentq_nb._host.host import Host

_MOST_BATCHES = 1000

_QUEUE = ("actor", "queue")
_GAUGES: Mapping[str, tuple[str, Callable[[QueueStatus], float]]] = {
    "agentq_queue_ready": ("Messages that are due and wait to be handled.", lambda queue: queue.ready),
    "agentq_queue_delayed": ("Messages that are not due yet.", lambda queue: queue.delayed),
    "agentq_queue_blocked": ("Messages that wait for others to complete.", lambda queue: queue.blocked),
    "agentq_queue_running": ("Messages that are being handled.", lambda queue: queue.running),
    "agentq_queue_dead": ("Dead letters.", lambda queue: queue.dead),
    "agentq_queue_paused": ("Queues that are paused, of the actors of this name.", lambda queue: queue.paused),
    "agentq_queue_limited": ("Queues that a limit holds back.", lambda queue: queue.limited_by is not None),
    "agentq_queue_waiting_senders": ("Senders that wait for room.", lambda queue: queue.waiting_senders),
}
"""By name: the help, and what each queue adds."""


class Standing(NamedTuple):
    """What is read on the host's loop."""

    queues: Sequence[QueueStatus]
    limits: Sequence[LimitStatus]
    awake: int
    uptime: float
    batches: Mapping[str, int]
    """How many rows of unfinished and recent batches have each status."""
    slowed_webhooks: int


class Metrics:
    """Answers Prometheus.

    :param answered: how many requests the server has answered, by HTTP status.
    """

    def __init__(self, calls: HostCalls, answered: Mapping[int, int]) -> None:
        self._calls = calls
        self._answered = answered

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Route("GET", ("metrics",), self._answer),)

    async def _answer(self, request: Request) -> Response:
        standing = await self._calls.run(_standing)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected(standing, dict(self._answered)))
        encode, content_type = choose_encoder(request.header("accept") or "")
        return Response(200, encode(registry), content_type)


async def _standing(host: Host) -> Standing:
    batches: Counter[str] = Counter()
    for batch in await host.broker.batches.recent(_MOST_BATCHES):
        counts = await host.broker.batches.counts(batch.name, batch.rows)
        for status in ("completed", "failed", "cancelled", "expired", "running", "waiting"):
            batches[status] += getattr(counts, status)
    return Standing(
        queues=await host.broker.status(totals=False),
        limits=await host.broker.limits.look(),
        awake=sum(1 for _ in host.activations.actors),
        uptime=host.summary().uptime,
        batches=batches,
        slowed_webhooks=len(host.webhook_rates.floods),
    )


class _Collected(Collector):
    """The metrics of one moment."""

    def __init__(self, standing: Standing, answered: Mapping[int, int]) -> None:
        self._standing = standing
        self._answered = answered

    def collect(self) -> Iterable[Metric]:
        yield from self._of_host()
        yield from _of_queues(self._standing.queues)
        yield from _of_limits(self._standing.limits)
        batches = GaugeMetricFamily(
            "agentq_batch_rows", "Rows of unfinished and recent batches, by status.", labels=("status",)
        )
        for status, count in self._standing.batches.items():
            batches.add_metric((status,), count)
        yield batches
        requests = CounterMetricFamily(
            "agentq_http_requests", "Requests that this server has answered.", labels=("status",)
        )
        for status, count in sorted(self._answered.items()):
            requests.add_metric((str(status),), count)
        yield requests

    def _of_host(self) -> Iterator[Metric]:
        standing = self._standing
        yield GaugeMetricFamily("agentq_uptime_seconds", "Seconds since the host started.", standing.uptime)
        yield GaugeMetricFamily("agentq_actors_awake", "Actors that are awake.", standing.awake)
        yield GaugeMetricFamily(
            "agentq_webhooks_slowed",
            "Queues whose messages start slowly because a webhook's deliveries came too fast.",
            standing.slowed_webhooks,
        )


def _of_queues(queues: Sequence[QueueStatus]) -> Iterator[Metric]:
    """Yield the sums over the actors of each name: their keys may be many, and may be private."""
    for name, (said, value) in _GAUGES.items():
        sums: Counter[tuple[str, str]] = Counter()
        for queue in queues:
            sums[actor_name(queue.actor), queue.queue] += int(value(queue))
        gauge = GaugeMetricFamily(name, said, labels=_QUEUE)
        for labels, total in sums.items():
            gauge.add_metric(labels, total)
        yield gauge
    handled = CounterMetricFamily(
        "agentq_queue_handled", "Messages that completed or failed since the host started.", labels=_QUEUE
    )
    oldest = GaugeMetricFamily(
        "agentq_queue_oldest_seconds", "How long the oldest message that is due has waited.", labels=_QUEUE
    )
    counts: Counter[tuple[str, str]] = Counter()
    ages: dict[tuple[str, str], float] = {}
    for queue in queues:
        labels = actor_name(queue.actor), queue.queue
        counts[labels] += queue.handled
        ages[labels] = max(ages.get(labels, 0.0), queue.oldest or 0.0)
    for labels, count in counts.items():
        handled.add_metric(labels, count)
        oldest.add_metric(labels, ages[labels])
    yield handled
    yield oldest


def _of_limits(limits: Sequence[LimitStatus]) -> Iterator[Metric]:
    """Yield the limits that have a name of their own: those of single queues are named by keys."""
    used = GaugeMetricFamily(
        "agentq_limit_used", "Starts in the limit's window, or messages at work.", labels=("limit",)
    )
    allowed = GaugeMetricFamily(
        "agentq_limit_allowed", "Starts, or messages at work, that it allows.", labels=("limit",)
    )
    paused = GaugeMetricFamily("agentq_limit_paused", "1 while a provider's limit pauses it.", labels=("limit",))
    waiting = GaugeMetricFamily("agentq_limit_waiting_queues", "Queues that wait for it.", labels=("limit",))
    for limit in limits:
        if limit.declared.name is None:
            continue
        labels = (limit.name,)
        used.add_metric(labels, limit.used)
        allowed.add_metric(labels, limit.count)
        paused.add_metric(labels, limit.paused_until is not None)
        waiting.add_metric(labels, limit.waiting)
    yield from (used, allowed, paused, waiting)
