"""What every keeper of mailboxes must do, said over ``mailboxes/protocol.py`` alone.

A test class of a keeper derives from :class:`Conformance` and gives a fixture ``setting`` (see ``settings.Setting``).
"""

from __future__ import annotations

import pytest

from tests.unit.mailboxes.conformance.changing import Changing
from tests.unit.mailboxes.conformance.large import Large
from tests.unit.mailboxes.conformance.leasing import Leasing
from tests.unit.mailboxes.conformance.pausing import Pausing
from tests.unit.mailboxes.conformance.receiving import Receiving
from tests.unit.mailboxes.conformance.restarting import Restarting
from tests.unit.mailboxes.conformance.sending import Sending
from tests.unit.mailboxes.conformance.settling import Settling
from tests.unit.mailboxes.conformance.waiting import Waiting


@pytest.mark.anyio
class Conformance(Sending, Receiving, Settling, Changing, Pausing, Leasing, Waiting, Restarting, Large):
    """All of it."""
