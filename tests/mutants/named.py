"""Mistakes worth a name: each breaks one promise. The file, the old text and the new, and tests that notice.

Twenty of them are ``fixed``: :mod:`tests.unit.test_mutants` tries them each time the tests run. Where ``tests`` is empty,
the recorded ones that enter the function are run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants.areas import CHECKOUT
from tests.mutants.mutant import Mutant, place_of


@dataclass(frozen=True)
class Named:
    """A mistake by hand."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    fixed: bool = False

    def mutant(self) -> Mutant:
        """The mistake in today's module. Raises LookupError when its text is not there exactly once."""
        before = (CHECKOUT / self.file).read_text()
        if before.count(self.old) != 1:
            raise LookupError(f"{self.name}: the text is {before.count(self.old)} times in {self.file}")
        after = before.replace(self.old, self.new)
        pairs = zip(before.splitlines(), after.splitlines(), strict=False)
        line = next(number for number, (old, new) in enumerate(pairs, 1) if old != new)
        function, statement = place_of(before, line)
        return Mutant(self.file, function, self.name, line, statement, before, after)


NAMED = (
    # --- one actor ----------------------------------------------------------------------------------------------------
    Named(
        "a handler's time limit runs into the next message",
        "agentq_nb/_runtime/in_flight.py",
        "            receiver.timer.cancel()\n",
        "            pass\n",
        (
            "tests/unit/runtime/test_cancelling.py::test_handler_timeout_of_one_message_leaves_the_next_one_its_full_time",
        ),
        fixed=True,
    ),
    Named(
        "fail() keeps the working copy of the state",
        "agentq_nb/_runtime/in_flight.py",
        '        receiver.copy = None\n        settled = Settlement(delivery, "failed"',
        '        settled = Settlement(delivery, "failed"',
        (
            "tests/unit/runtime/test_state.py::test_what_the_handler_of_a_failed_message_changed_does_not_go_along_with_the_next_one[fail]",
        ),
        fixed=True,
    ),
    Named(
        "retry() keeps the working copy of the state",
        "agentq_nb/_runtime/in_flight.py",
        "        receiver.copy = None\n        asked = ",
        "        asked = ",
        (
            "tests/unit/runtime/test_state.py::test_what_the_handler_of_a_failed_message_changed_does_not_go_along_with_the_next_one[retry]",
        ),
        fixed=True,
    ),
    Named(
        "the backoff has no cap",
        "agentq_nb/_policies/retry.py",
        "min(first * 2.0 ** min(failures - 1, 64), longest)",
        "first * 2.0 ** min(failures - 1, 64)",
        ("tests/unit/policies/test_backoff.py::test_it_doubles_from_the_first_try_on_up_to_the_longest",),
        fixed=True,
    ),
    Named(
        "an interrupted scheduled call is settled as completed",
        "agentq_nb/_runtime/supervisor.py",
        'return Settlement(delivery, "released", front=True)',
        'return Settlement(delivery, "completed")',
        (
            "tests/unit/runtime/test_scheduling.py::test_a_scheduled_action_that_a_stop_interrupts_comes_again_uncounted",
        ),
        fixed=True,
    ),
    Named(
        "a conflict of state goes unnoticed",
        "agentq_nb/_runtime/state.py",
        "        if touched:\n            raise StateConflict",
        "        if False:\n            raise StateConflict",
        ("tests/unit/runtime/test_state.py::test_an_action_that_changes_the_same_field_makes_the_attempt_fail",),
        fixed=True,
    ),
    Named(
        "an action tells its result before what it changed is durable",
        "agentq_nb/_runtime/actions.py",
        "        await activation.write(commit)\n",
        "        activation.begin(activation.write(commit))\n",
        (
            "tests/unit/runtime/test_durable_returns.py::test_nothing_returns_before_the_disk_has_what_another_wrote_for_it[returns]",
        ),
        fixed=True,
    ),
    Named(
        "the last attempt is tried once more",
        "agentq_nb/_policies/retry.py",
        "failures >= retry.attempts:",
        "failures > retry.attempts:",
        ("tests/unit/runtime/test_failing.py::test_the_default_backoff_doubles_and_three_attempts_are_the_default",),
    ),
    Named(
        "a stopped handler's message counts as a failed attempt",
        "agentq_nb/_runtime/settlement.py",
        '    if receiver.interrupted == "timed_out":',
        '    if receiver.interrupted != "cancelled":',
        (
            "tests/unit/runtime/test_stopping.py::test_after_10_s_a_stop_releases_what_is_in_flight_uncounted_and_it_comes_first",
        ),
    ),
    Named(
        "two receivers of one queue hold messages at once",
        "agentq_nb/_runtime/in_flight.py",
        "if len(holders) >= self._room(queue):",
        "if len(holders) > self._room(queue):",
        ("tests/unit/runtime/test_receiving.py",),
    ),
    # --- mailboxes ----------------------------------------------------------------------------------------------------
    Named(
        "a redelivered dead letter keeps its failures",
        "agentq_nb/_brokers/local/event_rows.py",
        "entry.failures = entry.crashes = entry.ended = entry.suspicion = 0",
        "entry.crashes = entry.ended = entry.suspicion = 0",
        (
            "tests/unit/brokers/test_held_writes.py::test_dead_letters_come_back_with_nothing_counted_and_may_fail_as_often_as_new_ones[one by one]",
        ),
        fixed=True,
    ),
    Named(
        "a redelivered dead letter keeps its crashes",
        "agentq_nb/_brokers/local/event_rows.py",
        "entry.failures = entry.crashes = entry.ended = entry.suspicion = 0",
        "entry.failures = entry.ended = entry.suspicion = 0",
        ("tests/unit/brokers/test_held_writes.py::test_a_dead_letter_comes_back_without_its_crashes",),
    ),
    Named(
        "a start is not durable after a crash",
        "agentq_nb/_brokers/local/lease.py",
        "careful = self._commit_log.careful and any(entry.old for entry in entries)",
        "careful = False",
        (
            "tests/unit/brokers/test_held_writes.py::test_what_was_there_before_a_crash_is_handed_out_only_when_its_start_is_on_disk",
        ),
        fixed=True,
    ),
    Named(
        "a start is not durable while a message may kill the kernel",
        "agentq_nb/_brokers/local/lease.py",
        "if careful or (suspects.doubtful and suspects.doubt()):",
        "if careful:",
        (
            "tests/unit/brokers/test_suspects.py::test_starts_are_durable_before_they_are_acted_on_while_a_message_may_kill_the_kernel",
        ),
        fixed=True,
    ),
    Named(
        "a result is told before it is durable",
        "agentq_nb/_brokers/local/lease.py",
        "            self._commit_log.append(applied.rows, applied.tell, self._commit_log)\n",
        "            self._commit_log.append(applied.rows)\n            applied.tell(self._commit_log)\n",
        ("tests/unit/brokers/test_held_writes.py::test_a_result_is_told_only_when_it_is_on_disk[settled_soon]",),
        fixed=True,
    ),
    Named(
        "the result of an awaited complete() is told before it is durable",
        "agentq_nb/_brokers/local/lease.py",
        "                await self._commit_log.write(applied.rows, applied.tell, self._commit_log)\n",
        "                applied.tell(self._commit_log)\n                await self._commit_log.write(applied.rows)\n",
        ("tests/unit/brokers/test_held_writes.py::test_a_result_is_told_only_when_it_is_on_disk[settled]",),
        fixed=True,
    ),
    Named(
        "a cancellation is told before it is durable",
        "agentq_nb/_brokers/local/commit.py",
        "        return self.write(written, self.results.publish, finished)\n",
        "        self.results.publish(finished)\n        return self.write(written)\n",
        ("tests/unit/brokers/test_held_writes.py::test_a_result_is_told_only_when_it_is_on_disk[cancelled]",),
        fixed=True,
    ),
    Named(
        "an old attempt settles the message of a new one",
        "agentq_nb/_brokers/local/applied_commit.py",
        " or entry.starts != delivery.token:",
        ":",
        (
            "tests/unit/brokers/test_local_broker.py::TestLocalBroker::test_a_delivery_of_an_earlier_attempt_cannot_settle_a_later_one",
        ),
    ),
    Named(
        "a queue goes on before the end of its pause is durable",
        "agentq_nb/_brokers/local/control.py",
        "    await commit_log.write(written, end)\n",
        "    end()\n    await commit_log.write(written)\n",
        ("tests/unit/brokers/test_held_writes.py::test_a_queue_goes_on_only_when_the_end_of_its_pause_is_on_disk",),
        fixed=True,
    ),
    Named(
        "a lost lease still writes",
        "agentq_nb/_brokers/local/lease.py",
        '        """End the lease on behalf of the broker."""\n        self._over = True\n',
        '        """End the lease on behalf of the broker."""\n',
        (
            "tests/unit/brokers/test_local_broker.py::test_a_lease_that_the_keeper_took_away_hands_out_and_writes_nothing",
        ),
    ),
    # --- the store ----------------------------------------------------------------------------------------------------
    Named(
        "a gap in the sequence is no damage",
        "agentq_nb/_store/inspect_store.py",
        "self.problem is None and self.accounted == self.last and self.last >= (mark or 0)",
        "self.problem is None and self.last >= (mark or 0)",
        (
            "tests/unit/store/test_gaps.py::test_a_row_that_is_missing_or_there_twice_is_damage[delete from events where seq = 3-4-there]",
        ),
        fixed=True,
    ),
    Named(
        "fewer rows than the guard's mark are no damage",
        "agentq_nb/_store/inspect_store.py",
        "self.problem is None and self.accounted == self.last and self.last >= (mark or 0)",
        "self.problem is None and self.accounted == self.last",
        ("tests/unit/store/test_gaps.py",),
    ),
    Named(
        "rows that are missing between frames of the journal are not counted",
        "agentq_nb/_store/journal_scan.py",
        "                missing += max(0, frame.first - last - 1)\n",
        "",
        ("tests/unit/store/test_gaps.py",),
    ),
    Named(
        "the copy of a checkpoint is named before it is synced",
        "agentq_nb/_store/checkpoint_copy.py",
        "            os.fsync(descriptor)\n        os.replace(unfinished",
        "        os.replace(unfinished",
        (
            "tests/unit/store/test_disk_order.py::test_the_copy_before_a_checkpoint_is_durable_before_the_checkpoint_begins",
        ),
        fixed=True,
    ),
    Named(
        "the name of a checkpoint's copy is not synced",
        "agentq_nb/_store/checkpoint_copy.py",
        "        os.replace(unfinished, checkpoint_of(path))\n        sync_file(path.parent)\n",
        "        os.replace(unfinished, checkpoint_of(path))\n",
        ("tests/unit/store/test_disk_order.py",),
    ),
    Named(
        "a new database is named before it is synced",
        "agentq_nb/_store/schema.py",
        "    sync_file(finished)\n    os.replace(finished, path)\n",
        "    os.replace(finished, path)\n",
        ("tests/unit/store/test_disk_order.py",),
    ),
    Named(
        "the name of a new database is not synced",
        "agentq_nb/_store/schema.py",
        "    os.replace(finished, path)\n    sync_file(path.parent)\n",
        "    os.replace(finished, path)\n",
        ("tests/unit/store/test_disk_order.py",),
    ),
    Named(
        "a new journal is named before it is synced",
        "agentq_nb/_store/journal.py",
        "            self.begin(0, first)\n            os.fsync(self._descriptor)\n",
        "            self.begin(0, first)\n",
        ("tests/unit/store/test_disk_order.py::test_a_new_log_and_its_journal_are_durable_before_anything_is_written",),
        fixed=True,
    ),
    Named(
        "the name of a new journal is not synced",
        "agentq_nb/_store/journal.py",
        "        self.path = path\n        sync_file(path.parent)\n",
        "        self.path = path\n",
        ("tests/unit/store/test_disk_order.py",),
    ),
    Named(
        "a frame of the journal is not durable when its write returns",
        "agentq_nb/_store/journal.py",
        "_write_all(self._descriptor, parts, offset, _RWF_DSYNC)",
        "_write_all(self._descriptor, parts, offset)",
        ("tests/unit/store/test_disk_order.py::test_what_is_acknowledged_was_written_durably[True]",),
        fixed=True,
    ),
    Named(
        "a frame is not flushed where the file system knows no durable writes",
        "agentq_nb/_store/journal.py",
        "        _write_all(self._descriptor, parts, offset)\n        _flush(self._descriptor)\n",
        "        _write_all(self._descriptor, parts, offset)\n",
        ("tests/unit/store/test_disk_order.py",),
    ),
    # --- agents -------------------------------------------------------------------------------------------------------
    Named(
        "a link in the place of the workspace is followed",
        "agentq_nb/agent_os/sandbox/workspace.py",
        "os.open(folder, DIRECTORY | (0 if folder == self.mounted else os.O_NOFOLLOW))",
        "os.open(folder, DIRECTORY)",
        ("tests/unit/agent_os/test_workspace.py::test_a_link_in_the_place_of_the_workspace_itself_is_not_followed",),
        fixed=True,
    ),
    Named(
        "allow once is sent as allow always",
        "agentq_nb/agent_os/agents/acp/wire.py",
        'by_kind.get(f"{word}_once") or by_kind.get(f"{word}_always")',
        'by_kind.get(f"{word}_always") or by_kind.get(f"{word}_once")',
        (
            "tests/unit/agent_os/test_permission_options.py::test_an_answer_is_for_this_time_only[allow-id-allow_once-False]",
        ),
        fixed=True,
    ),
    Named(
        "a permission that nobody answered is given",
        "agentq_nb/agent_os/sessions/permissions.py",
        'Decision("deny", "timeout", f"nobody',
        'Decision("allow", "timeout", f"nobody',
        ("tests/agents/test_permissions.py::test_nobody_answers_in_time_is_a_no_and_the_transcript_says_so",),
    ),
    Named(
        "the first answer to a permission does not count",
        "agentq_nb/agent_os/sessions/permissions.py",
        "            return False\n        self.decision = decision\n",
        "            pass\n        self.decision = decision\n",
        ("tests/agents/test_permissions.py::test_answering_twice_at_once_gives_the_second_an_error",),
    ),
)
