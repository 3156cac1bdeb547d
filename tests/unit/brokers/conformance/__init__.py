"""What every broker must do, by ``_brokers/base.py`` alone.

A test class of a broker derives from :class:`Conformance`, where there is a fixture ``setting`` (see ``settings.Setting``).
"""

from __future__ import annotations

import pytest

from tests.unit.brokers.conformance.admitting import Admitting
from tests.unit.brokers.conformance.batch_changes import BatchChanges
from tests.unit.brokers.conformance.batches import Batches
from tests.unit.brokers.conformance.chain_ends import ChainEnds
from tests.unit.brokers.conformance.chains import Chains
from tests.unit.brokers.conformance.changing import Changing
from tests.unit.brokers.conformance.expiring import Expiring
from tests.unit.brokers.conformance.large import Large
from tests.unit.brokers.conformance.leasing import Leasing
from tests.unit.brokers.conformance.origins import Origins
from tests.unit.brokers.conformance.pausing import Pausing
from tests.unit.brokers.conformance.receiving import Receiving
from tests.unit.brokers.conformance.releases import Releases
from tests.unit.brokers.conformance.restarting import Restarting
from tests.unit.brokers.conformance.schedules import Schedules
from tests.unit.brokers.conformance.sending import Sending
from tests.unit.brokers.conformance.settling import Settling
from tests.unit.brokers.conformance.waiting import Waiting
from tests.unit.brokers.conformance.withholding import Withholding


@pytest.mark.anyio
class Conformance(
    Sending,
    Admitting,
    Receiving,
    Settling,
    Changing,
    Pausing,
    Leasing,
    Waiting,
    Restarting,
    Expiring,
    Schedules,
    Large,
    Withholding,
    Origins,
    Batches,
    BatchChanges,
    Chains,
    ChainEnds,
    Releases,
):
    """All of it."""
