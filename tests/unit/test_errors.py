"""What people read of an error, and what programs get of it."""

from __future__ import annotations

import copy
import pickle

import pytest

from agentq_nb import AgentqError, Result, UserError
from agentq_nb.errors import StoreDamaged

HOSTILE = "red \x1b[31malert\x1b[0m, a title \x1b]0;owned\x07, a bell \x07, NUL \0, turned \u202egnp.exe"


def failed(message: str) -> AgentqError:
    with pytest.raises(AgentqError) as caught:
        Result("failed", "m1", error={"message": message}).unwrap()
    return caught.value


def test_text_that_an_agent_chose_cannot_drive_the_terminal_that_shows_the_error() -> None:
    shown = str(failed(HOSTILE))

    assert not set("\x1b\x07\0\u202e") & set(shown)
    assert "red alert" in shown
    assert "gnp.exe" in shown
    assert shown.endswith("[queue.failed]")


def test_programs_get_the_text_as_it_was() -> None:
    error = failed(HOSTILE)

    assert error.message == f"Message m1 failed: {HOSTILE}"
    assert error.args == (error.message,)
    assert error.metadata["error"] == {"message": HOSTILE}


def test_lines_and_letters_of_any_language_are_shown_as_they_are() -> None:
    told = "línea una\n\tzażółć gęślą jaźń\n日本語 🙂 שלום"

    assert str(UserError(told)) == f"{told} [user.user_error]"


def test_a_text_without_end_is_cut_where_it_is_shown_and_says_so() -> None:
    error = UserError("x" * 1_000_000)

    assert len(str(error)) < 25_000
    assert "1,000,000 characters" in str(error)
    assert str(error).endswith("[user.user_error]")
    assert len(error.message) == 1_000_000


def test_the_code_and_group_of_an_error_are_shown_safely_too() -> None:
    assert "\x1b" not in str(UserError("no", code="bad\x1b[2J"))


@pytest.mark.parametrize(
    "error",
    [UserError(HOSTILE, code=HOSTILE, metadata={"said": HOSTILE}), StoreDamaged(HOSTILE, expected=3, found=2)],
    ids=["user error", "error with a constructor of its own"],
)
def test_a_copied_and_an_unpickled_error_keep_the_exact_text(error: AgentqError) -> None:
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert other.message == HOSTILE
        assert other.full_code == error.full_code
        assert other.metadata == error.metadata
        assert str(other) == str(error)
