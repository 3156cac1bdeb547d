"""What each kind of fault does, and how it is lifted."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.distributed.cluster import Cluster
from tests.distributed.plan import Strike


def kill(cluster: Cluster, strike: Strike) -> None:
    """Kill a host; a new one starts in its place a little later."""
    cluster.ledger.note("away", life=cluster.life_of(strike.victim))
    cluster.kill(strike.victim)
    time.sleep(strike.length)
    cluster.start_again(strike.victim)


def stop(cluster: Cluster, strike: Strike) -> None:
    """Stop a host for longer than its lease, and let it go on as if nothing had happened."""
    life = cluster.life_of(strike.victim)
    cluster.signal(strike.victim, signal.SIGSTOP)
    cluster.ledger.note("away", life=life)
    time.sleep(strike.length)
    cluster.ledger.note("back", life=life)
    cluster.signal(strike.victim, signal.SIGCONT)


def server(cluster: Cluster, strike: Strike) -> None:
    """Let the server crash, and start it again."""
    cluster.servers.crash()
    time.sleep(strike.length)
    cluster.servers.restart()


def failover(cluster: Cluster, strike: Strike) -> None:
    """Let the primary crash, and promote its standby."""
    cluster.servers.crash()
    time.sleep(strike.length)
    cluster.servers.promote()


def cut(cluster: Cluster, strike: Strike) -> None:
    """Cut the network of a host."""
    life = cluster.life_of(strike.victim)
    cluster.networks[strike.victim].cut(strike.cut)
    cluster.ledger.note("away", life=life)
    time.sleep(strike.length)
    cluster.ledger.note("back", life=life)
    cluster.networks[strike.victim].mend()


FAULTS: dict[str, Callable[[Cluster, Strike], None]] = {
    "kill": kill,
    "stop": stop,
    "server": server,
    "failover": failover,
    "cut": cut,
}
