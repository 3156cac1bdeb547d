"""The command that says where notifications are sent."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from agentq_nb._commands.command_context import Command, CommandContext, Where
from agentq_nb._commands.parser import UsageError, flag, rest, word
from agentq_nb._core.threads import in_long_thread
from agentq_nb._display.document import Document
from agentq_nb._host.notice_channels import channels_of

if TYPE_CHECKING:
    from agentq_nb._host.start_and_stop import HostLifecycle


@dataclass(frozen=True, kw_only=True)
class Notify(Command):
    """Show where notifications are sent, or change that: when a batch is done, messages have failed, and so on.

    URL is one of the apprise package, such as ntfy://my-topic or mailto://user:password@example.org; several may be given.
    To keep it out of the notebook: %agentq notify {{url}}. A command gets the text on its standard input, and
    AGENTQ_NOTICE_KIND, _TITLE, _TEXT and _COUNT in its environment; if it has options, put -- before it. "off" sends nothing
    more. --test sends one at once.

    It lasts as long as the kernel. See the page docs/overnight.md.
    """

    name: ClassVar[str] = "notify"
    where: ClassVar[Where] = "kernel"
    needs_host: ClassVar[bool] = True

    to: str | None = word("URL|COMMAND|off", "where notifications are sent", optional=True)
    more: str = rest("WORD...", "more URLs, or the words of the command", optional=True)

    test: bool = flag("--test", "send one at once, to see that it arrives")

    async def run(self, context: CommandContext) -> Document:
        lifecycle = context.host().lifecycle
        if self.to == "off":
            lifecycle.notify_settings.channels = ()
        elif self.to is not None:
            lifecycle.notify_settings.channels = await in_long_thread(channels_of, _target(self.to, self.more))
        if self.test:
            await _test(lifecycle)
        return shown(lifecycle)


def _target(to: str, more: str) -> str | list[str]:
    try:
        words = [to, *shlex.split(more)]
    except ValueError as error:
        raise UsageError(f"The words after {to} cannot be read: {error}.") from None
    return words if len(words) > 1 or "://" not in to else to


async def _test(lifecycle: HostLifecycle) -> None:
    if not lifecycle.notify_settings.channels:
        raise UsageError("There is nowhere to send a notification to: %agentq notify URL --test")
    assert lifecycle.notifier is not None
    failures = await lifecycle.host.enter(lifecycle.notifier.test)
    if failures:
        raise UsageError(f"The notification could not be sent. {' '.join(failures)}")


def shown(lifecycle: HostLifecycle) -> Document:
    """Return where notifications are sent, and what could not be sent."""
    channels = lifecycle.notify_settings.channels
    where = ", ".join(channel.shown for channel in channels) or "nowhere; set it: %agentq notify URL"
    troubles = [] if lifecycle.notifier is None else lifecycle.notifier.troubles
    return Document(title="Notifications", facts=[("sent to", where)], notes=troubles)
