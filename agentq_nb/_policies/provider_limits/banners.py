"""Tell a banner of a limit from prose about limits.

A *banner* is what a program prints instead of an answer: it begins with the statement that a limit was hit, perhaps
after the name of an error, and goes on with nothing but when it ends and what one can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agentq_nb._policies.provider_limits.banner_patterns import ACCOMPANIMENT, CODE, PROSE, STRONG, WEAK
from agentq_nb._policies.provider_limits.plain_text import any_of

_LONGEST = 4_000  # characters; a longer text is no banner
_LAST_CHARACTERS, _LAST_LINES, _LAST_SENTENCES = 12_000, 100, 20  # what is read of a long text, and of a line

_NOISE = re.compile(r"^(?:[\s⎿└│├─●✕✖✗❌⚠■🖐⏳🚫⛔·*>#\[(]|\ufe0f)+")
_DASH = r"\s*[:\-|(\[{]+"
_STATUS = r"(\d{3})"
_SPEAKER = (
    r"(?:fatal|internal|backend|api|stream|streaming|codex|https?|provider|server|model|agent|llm|client|unexpected|gemini|claude|openai"
    r"|anthropic|opencode|pi|google|request|execution|turn|session|prompt|unhandled|ai|sdk|acp)"
)
_ERROR_NAME = re.compile(
    any_of(
        # "API Error:", "stream error:", "Error (429 {...": any words before them must be names.
        rf"(?:{_SPEAKER}\s+){{0,4}}(?:error|failure|exception|err)(?:\s*\[?\(?(?:code|status|http)?:?\s*{_STATUS}\)?\]?)?"
        rf"(?:{_DASH}|\s+(?=\d{{3}}\b)|$)",
        rf"(?:{_SPEAKER}\s+){{1,4}}error\]",
        r"error from provider(?: \([^)\n]{1,60}\))?\s*:",
        r"(?!(?:the|this|that|an?|my|your|i|when|if|then|fix(?:ed)?|add(?:ed)?|handled?|new|no)\b)"
        rf"(?-i:[A-Z][\w.]*\s+){{1,4}}error\s*(?:\({_STATUS}\))?\s*:",
        # "litellm.RateLimitError: ", "TerminalQuotaError: ".
        rf"[\w.]*(?:Error|Exception|Exhausted|Failure)\b(?:{_DASH}|\s*$)",
        # Statuses.
        rf"error\s+code:?\s*{_STATUS}\s*[-:]?",
        rf"(?:unexpected\s+)?(?:http\s+)?status(?:\s+code)?:?\s*{_STATUS}(?:\s+[A-Z][A-Za-z ]+)?\s*[:\-]?",
        rf"HTTP\s*/?\s*{_STATUS}\s*[:\-]?",
        rf"(?:client|server)\s+error\s+'{_STATUS}\s?",
        # What failed.
        r"(?:retry|request|prompt|turn|run|query|call|api\s+call|generation)\s+(?:failed|aborted|rejected|stopped)"
        rf"(?:\s+after\s+\d+\s+(?:attempts?|retries))?(?:\s+with\s+(?:http\s+)?status(?:\s+code)?\s*{_STATUS})?\s*[:.\-(]*",
        rf"attempt\s+\d+\s+failed(?:\s+with\s+status(?:\s+code)?\s*{_STATUS})?\s*[:.\-(]*",
        r"stream\s+disconnected\s+before\s+completion\s*:",
        r"reconnecting\b[^\n:]{0,60}(?:\n|:)",
        r"an\s+error\s+occurred\s+\(\w+\)\s+when\s+calling\s+the\s+\w+\s+operation(?:\s+\([^)\n]*\))?\s*:",
        # Who reports it, and when.
        r"received\s+from\s+\w+(?:\s+\w+)?\s*[:\-]",
        r"(?:warning|notice|info|note)\s*:",
        r"\d{4}-\d\d-\d\d[T ][\d:.,]+Z?\s*(?:ERROR|WARN(?:ING)?|INFO|FATAL)?\s*(?:[\w.:]+:)?",
        r"(?:anthropic|openai|azure|groq|vertexai?|bedrock|gemini|openrouter|mistral|vertex_ai|deepseek|xai|together)\w*\s*[:\-]",
    )
    + r"\s*",
    re.IGNORECASE,
)
_BARE_STATUS = re.compile(
    r"([45]\d\d)\b(?:\s*[A-Z_]{4,}\.)?\s*(?:(?i:too\s+many\s+requests|service\s+unavailable|payment\s+required|site\s+is\s+overloaded)"
    r"\s*[:\-]\s*)?[:\-]?\s*"
)
_OF_A_STATUS = re.compile(
    r"status code|too many requests|rate[ -]limit|resource exhausted|overloaded|\s*$", re.IGNORECASE
)
_CHROME = re.compile(
    any_of(
        r"allowed by auto mode classifier",
        r"loaded cached credentials\.?",
        r"data collection is disabled\.?",
        r"interrupted",
        r"\(no (?:content|output)\)",
        r"an unexpected critical error occurred:?.*",
        r"full report available at:.*",
    )
    + "$",
    re.IGNORECASE,
)
"""Lines that programs print beside anything."""

_MARKED = re.compile(r"\A\s*(?:[*#-]+|//+|/\*+)\s|^\s*- .+\n\s*- ", re.MULTILINE)
"""Headings, comments and lists."""

_COMMENT = re.compile(r"\s*(?:#|//|/?\*+(?! quota exceeded))", re.IGNORECASE)

_LINK = re.compile(r"https?://[^\s)\]]+")
_CLAUSE_END = re.compile(
    r"(?<=[a-z0-9\])§][.!?])\s+|[\n;·|]+|\s+-+\s+|(?<=[\])])\s*(?=\[)|,\s+(?=(?:or|please|visit)\b)"
)
_SENTENCE_START = re.compile(r"(?<=[.!?:])(?<!e\.g\.)(?<!i\.e\.)\s+")
_RETRIED = re.compile(r"retry|try again|attempt|resets?\b|\bwait\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Banner:
    """A stretch of text that states a limit, or the message of an error that may.

    :param text: what it says.
    :param status: the HTTP status named before it, if any.
    """

    text: str
    status: int | None = None


def whole_banner(text: str, *, reported: bool) -> Banner | None:
    """Return the banner that ``text`` is, or None if it is anything else.

    :param text: plain text with ``§`` in the place of each JSON object.
    :param reported: such an object is the report of an error.
    """
    if len(text) > _LONGEST or "```" in text or _MARKED.search(text):
        return None
    text = "\n".join(line for line in text.split("\n") if not _CHROME.match(line.strip())).strip()
    if is_prose(text):
        return None
    rest, status, named = _without_names(text)
    if named and (reported or "§" not in rest):
        # After the name of an error comes its message; what it means is for others to judge.
        return Banner(rest, status) if rest or status else None
    if rest.startswith("§"):
        return Banner(rest, status) if reported and _accompanies(rest[1:], lenient=True) else None
    match = _statement(rest)
    if match is None:
        return None
    tail, strong = rest[match.end() :], match.re is STRONG
    if not strong and not _RETRIED.search(tail) and tail.strip(" .!\n"):
        return None
    return Banner(text, status or _status_in(match)) if _accompanies(tail, lenient=strong) else None


def banners_within(text: str) -> Iterator[Banner]:
    """Yield the banners that stand at the beginning of a line or sentence near the end, the last first."""
    position = len(text)
    for line in reversed(text[-_LAST_CHARACTERS:].split("\n")[-_LAST_LINES:]):
        position -= len(line)
        start_of_line, position = position, position - 1
        if len(line) > _LONGEST or _COMMENT.match(line) or is_prose(line):
            continue
        starts = [0, *(match.end() for match in _SENTENCE_START.finditer(line))][-_LAST_SENTENCES:]
        for start in reversed(starts):
            rest, status, named = _without_names(line[start:])
            match = _statement(rest, weak=named or start == 0)
            if match or (named and (rest or status)):
                yield Banner(text[start_of_line:][:1_500], status or (_status_in(match) if match else None))


def is_prose(text: str) -> bool:
    """Whether a stretch of text was written by a person or is code, rather than a program's message."""
    return bool(PROSE.search(text) or CODE.search(text))


def _without_names(text: str) -> tuple[str, int | None, bool]:
    """Return the text without symbols and errors' names before it, the status among them, and whether there was a name."""
    status, named = None, False
    for _ in range(8):
        if noise := _NOISE.match(text):
            text = text[noise.end() :]
        if STRONG.match(text):
            break
        if name := _ERROR_NAME.match(text):
            named = True
        elif name := _BARE_STATUS.match(text):
            # By itself it may count anything: "429 files changed".
            named = named or bool(_OF_A_STATUS.match(text, name.end()))
        else:
            break
        status = next((int(code) for code in name.groups() if code), status)
        text = text[name.end() :]
    return text.lstrip(" \t([{\"'"), status, named


def _statement(text: str, *, weak: bool = True) -> re.Match[str] | None:
    return STRONG.match(text) or (WEAK.match(text) if weak else None)


def _status_in(match: re.Match[str]) -> int | None:
    found = re.search(r"\b(429|529|503)\b", match[0])
    return int(found[1]) if found else None


def _accompanies(tail: str, *, lenient: bool) -> bool:
    """Whether what follows a statement says nothing but when the limit ends and what one can do."""
    for raw in _CLAUSE_END.split(_LINK.sub("", tail)):
        clause = raw.strip(" \t.,:!?\"'()[]{}§*⎿")
        if not clause:
            continue
        if not (ACCOMPANIMENT.match(clause) or _statement(clause) or (lenient and len(clause.split()) <= 8)):
            return False
    return True
