"""Who may use the local socket: processes of this user that know its secret and were not started by a VM."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping

from agentq_nb._gateway.access import offered_tokens
from agentq_nb._gateway.peer import Peer, is_of_vm
from agentq_nb._gateway.request import Request
from agentq_nb.errors import Refused


class SocketAccess:
    """Access over the local socket. Agents run as the same user, so that its path and its mode keep none of them out.

    :param refused: called, in the listener's thread, with the process of a VM that connected.
    """

    def __init__(self, secret: str, refused: Callable[[int], None]) -> None:
        self._secret = secret.encode()
        self._refused = refused

    def check(self, request: Request) -> None:
        """Raise Refused: for a peer of another user or of a VM, or for want of the secret."""
        self._check_peer(request.peer)
        offered = offered_tokens(request)
        if not offered:
            raise Refused(401, "no_token", "The host's socket needs the secret from the file beside it.")
        if not all(hmac.compare_digest(token.encode("utf-8", "replace"), self._secret) for token in offered):
            raise Refused(
                401, "wrong_token", "This is not the secret of the host's socket. The host was started again."
            )

    def _check_peer(self, peer: Peer | None) -> None:
        if peer is None:  # the system does not say: the folder lets only this user in
            return
        if peer.uid != os.geteuid():
            raise Refused(403, "other_user", "The host's socket is for programs of the user who runs the host.")
        if is_of_vm(peer.pid):
            self._refused(peer.pid)
            raise Refused(403, "peer_of_vm", "The host's socket is not for processes that a VM started.")

    def response_headers(self, request: Request) -> Mapping[str, str]:
        """Return no headers: pages of browsers cannot connect to a socket."""
        return {}
