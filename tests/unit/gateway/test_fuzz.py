"""A short run of the fuzzer; ``python -m tests.gateway_fuzz --inputs N`` is a long one."""

from __future__ import annotations

import os

from tests.gateway_fuzz.fuzzer import fuzz

INPUTS = int(os.environ.get("AGENTQ_FUZZ_INPUTS", "1000"))


def test_no_bytes_make_the_gateway_fail_hang_or_grow() -> None:
    findings = fuzz(INPUTS, seeded=20)
    print(findings)
    assert findings.counts.total() > 0.9 * INPUTS
    assert {part.split()[0] for part in findings.counts} == {"decoder", "http", "websocket"}
    # It is no use if nothing that it sends is understood.
    for encoding in ("bare", "cbor", "json"):
        assert findings.outcomes[f"decoder {encoding}: read"] > 0
