"""Tell a banner of a limit from prose about limits.

A *banner* is what a program prints instead of an answer: it begins with the statement that a limit was hit, perhaps
after the name of an error, and goes on with nothing but when it ends and what one can do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LONGEST = 4_000
"""Characters; a longer text is no banner."""

_NOISE = re.compile(r"^(?:[\s⎿└│├─●•·✕✖✗❌⚠️■🖐⏳🚫⛔*>#\[(]|\ufe0f)+")
_ERROR_PREFIX = re.compile(
    r"""(?:
        (?:(?:fatal|internal|api|stream|streaming|codex|http|https|provider|server|model|agent|llm|client|unexpected|gemini|
           claude|openai|anthropic|opencode|pi|google|request|execution|turn|session|prompt|unhandled|ai|sdk|acp)\s+){0,4}
          (?:error|failure|exception|err)s?(?:\s*\[?\(?(?:code|status|http)?:?\s*(?P<a>\d{3})\)?\]?)?
          (?:\s*[:\-–—|(\[{]+|\s+(?=\d{3}\b)|$)
      | [\w.]*(?:Error|Exception|Exhausted|Failure)\b\s*(?:[:\-–—(\[{]+|$)
      | error\s+code:?\s*(?P<b>\d{3})\s*[-:–—]?
      | (?:unexpected\s+)?(?:http\s+)?status(?:\s+code)?:?\s*(?P<c>\d{3})(?:\s+[A-Z][A-Za-z ]+)?\s*[:\-–—]?
      | (?P<d>[45]\d\d)\b(?:\s*[A-Z_]{4,}\.)?\s*(?:(?:too\s+many\s+requests|service\s+unavailable|payment\s+required|bad\s+request|site\s+is\s+overloaded)\b\s*[:\-–—]\s*)?[:\-–—]?
      | HTTP\s*/?\s*(?P<e>\d{3})\s*[:\-–—]?
      | (?:retry|request|prompt|turn|run|query|call|api\s+call|generation)\s+(?:failed|aborted|rejected|stopped)
          (?:\s+after\s+\d+\s+(?:attempts?|retries))?(?:\s+with\s+(?:http\s+)?status(?:\s+code)?\s*(?P<f>\d{3}))?\s*[:.\-–—(]*
      | attempt\s+\d+\s+failed(?:\s+with\s+status(?:\s+code)?\s*(?P<g>\d{3}))?\s*[:.\-–—(]*
      | stream\s+disconnected\s+before\s+completion\s*: | reconnecting\b[^\n:]{0,60}(?:\n|:)
      | an\s+error\s+occurred\s+\(\w+\)\s+when\s+calling\s+the\s+\w+\s+operation(?:\s+\([^)\n]*\))?\s*:
      | (?:client|server)\s+error\s+'(?P<h>\d{3})\s?
      | received\s+from\s+\w+(?:\s+\w+)?\s*[:\-–—]
      | (?:warning|notice|info|note)\s*:
      | \d{4}-\d\d-\d\d[T ][\d:.,]+Z?\s*(?:ERROR|WARN(?:ING)?|INFO|FATAL)?\s*(?:[\w.:]+:)?
      | (?:anthropic|openai|azure|groq|vertexai?|bedrock|gemini|openrouter|mistral|vertex_ai|deepseek|xai|together)\w*\s*[:\-–—]
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_CHROME = re.compile(
    r"(?:allowed by auto mode classifier|loaded cached credentials\.?|interrupted|\(no (?:content|output)\)|"
    r"data collection is disabled\.?|an unexpected critical error occurred:?.*|full report available at:.*)$",
    re.IGNORECASE,
)

_END = (
    r"(?=\s*(?:$|[.!,;:·∙•|()\[\]{}§—–\-…\"'\n]|\b(?:or|until|resets?|try|please|retry|retrying|"
    r"and\s+(?:will|try|please)|your|in|on|at|to\s+(?:access|get|continue)|seu)\b))"
)
_NAME = r"(?:[\w'+.-]+\ ){0,5}?"
_NOUN = r"(?:limits?|quota|allowance|cap|usage|capacity|credits?|balance)"
_STRONG = re.compile(
    rf"""(?:
        (?:sorry,?\s+|unfortunately,?\s+)?you(?:'ve|\ have|'re|\ are)?\ (?:now\ |already\ |currently\ |temporarily\ )?
          (?:hit|reached|exceeded|exhausted|used\ up|used\ all(?:\ of)?|run\ out\ of|ran\ out\ of|out\ of|over|maxed\ out|surpassed|depleted|been\ rate[- ]limited|rate[- ]limited|being\ rate[- ]limited)
          (?:\ (?:all\ |of\ |your\ |the\ |this\ |our\ |any\ )*{_NAME}(?:limits?|quota|allowance|cap|usage|capacity|credits?|messages|requests|prompts))?
          (?:\ for\ [^.·|\n]{{1,60}}?(?=\.|\ ·|\ ∙|\||$|\n|,|\ or\ |\ until))?
      | you\ have\ no\ (?:\w+\ )?credits?\ (?:remaining|left)
      | (?!(?:when|if|once|after|until|before|because|i|we|they|he|she|it|a|an|no|this\ test|what|how|why|where|that|test)\b)
        {_NAME}(?<!disk\ )(?:[\w-]*-)?(?:usage|session|weekly|daily|monthly|hourly|hour|day|opus|sonnet|haiku|fable|plan|account|messages?|premium|free[\w-]*|tier|claude|gpt\S*|gemini|codex|model|chatgpt|credit)s?
        \ (?:\w+\ )?(?:limits?|quota|allowance|cap|usage|balance|credits)\ (?:has\ been\ |have\ been\ |was\ |is\ |were\ |already\ |been\ )*
        (?:reached|exceeded|hit|exhausted|depleted|used\ up|too\ low)
          (?:\ for\ [^.·|\n]{{1,80}}?(?=\.|\ ·|\ ∙|\||$|\n|,|:))?
      | rate\ limit\ (?:reached|exceeded)\ for\ [^\n]{{1,80}}?\ (?:in\ organi[sz]ation|on\ (?:tokens|requests|[\w-]+\ per))\ [^\n:]{{1,80}} (?=:)
      | your\ (?:account|team|organi[sz]ation|workspace)\b[^\n.:]{{0,80}}?(?:reached\ [^\n.:,]{{1,60}}|used\ all\ [^\n.]{{1,80}}|out\ of\ credits)
      | (?:this|the|your)\ requests?\ (?:would|will|has|have|was|were|is)\ .{{0,30}}?(?:exceed|exceeded|exceeds|throttled|rate[- ]limited|rejected)\b[^.\n]{{0,140}}?(?:limits?|rate|throttled|limited|quota)\b(?:\ of\ [^.\n]{{1,60}})?
      | requests\ to\ .{{1,120}}?\ have\ exceeded\ [^.\n]{{1,100}}
      | number\ of\ [\w ]{{1,60}}?\ (?:exceeds?|has\ exceeded)\ [^.\n]{{1,60}}limits?
      | resource\ has\ been\ exhausted(?:\ \(e\.g\.\ check\ quota\))? | resource\ exhausted | resource_exhausted
      | quota\ exceeded\ for\ [^\n]{{1,300}}? (?=\.\s|\.?$|\n)
      | quota\ exceeded\.\ check\ your\ plan\ and\ billing\ details
      | free\ usage\ (?:limit\ )?exceeded
      | no\ capacity\ available\ for\ model\ [^\n.]{{1,80}}
      | (?:the\ |our\ |this\ |that\ |selected\ |requested\ )?(?:[\w.-]+\ )?(?:model|engine|server|servers|service|provider|api|backend|system|claude|openai|anthropic|gemini)s?\ (?:is|are)\ (?:currently\ |temporarily\ )?
          (?:overloaded(?:\ with\ other\ requests)?|at\ capacity|over\ capacity|experiencing\ (?:\w+\ )?(?:high|heavy)\ (?:demand|load|traffic))
      | we(?:'re|\ are)\ (?:currently\ )?experiencing\ (?:\w+\ )?(?:high|heavy)\ (?:demand|load|traffic)(?:,\ which\ may\ cause\ temporary\ errors)?
      | (?:your\ )?credit\ balance\ is\ too\ low(?:\ to\ access\ the\ [\w ]+)?
      | insufficient\ (?:account\ )?(?:balance|credits?|funds|quota)(?:\ or\ no\ resource\ package)?
      | billing\ hard\ limit\ has\ been\ reached | spend(?:ing)?\ limit\ reached | payment\ required
      | exceeded\ retry\ limit,\ last\ status:?\ (?P<status>429|529|503)[^,\n]{{0,40}}
      | too\ many\ requests,\ the\ rate\ limit\ is\ [^.\n]{{1,80}}
      | too\ many\ tokens,\ please\ wait\ before\ trying\ again | too\ many\ requests,\ please\ wait\ before\ trying\ again
      | (?:repeated\ )?529\ overloaded(?:\ errors?)? | request\ rejected\ \(429\)
      | voc[êe]\ atingiu\ [^.\n]{{1,160}} | has\ (?:alcanzado|llegado\ a|superado)\ [^.\n]{{1,60}}?l[ií]mite[^.\n]{{0,40}}
      | vous\ avez\ atteint\ [^.\n]{{1,60}}?limite[^.\n]{{0,40}} | (?:sie\ haben|du\ hast)\ [^.\n]{{1,60}}?limit\ (?:erreicht|[üu]berschritten)
      | hai\ raggiunto\ [^.\n]{{1,60}}?limite[^.\n]{{0,40}}
      | (?:您|你)?(?:已|已经)?(?:达到|超出|达)[^.\n。]{{0,20}}(?:上限|限额|限制) | [^.\n。]{{0,20}}(?:利用|使用)(?:量)?(?:上限|制限)に達しました | [^.\n]{{0,20}}사용\ ?(?:량\ )?한도[^.\n]{{0,20}}
    ){_END}""",
    re.IGNORECASE | re.VERBOSE,
)
_WEAK = re.compile(
    r"""(?:
        (?:api\ )?rate[ -]?limit(?:s|ed|ing)?(?:\ error)?(?:\ (?:is|was|has\ been|have\ been))?(?:\ (?:exceeded|reached|hit|reject(?:ed|ion)))?
          (?:\ (?:for|by)\ [^.·|\n]{1,80}?(?=\.|\ ·|\||$|\n|,|:))?
      | too\ many\ (?:concurrent\ )?(?:requests|tokens|connections)
      | (?:provider|server|model|service|engine)?\ ?(?:is\ )?(?:currently\ |temporarily\ )?overloaded(?:_error)?
      | throttl(?:ed|ing)(?:exception)? | (?:request|you)\ (?:was|were)\ throttled
      | service\ (?:temporarily\ )?unavailable | slow\ down | at\ capacity
      | quota\ (?:has\ been\ )?exceeded | usage\ exceeded | rate_limit_error | rate_limit_exceeded | insufficient_quota
      | (?:request\ )?rate\ increased\ too\ quickly
      | (?:you\ )?exceeded\ your\ current\ quota | this\ may\ be\ a\ temporary\ capacity\ issue
      | [\w./:-]+\ is\ temporarily\ rate[- ]limited(?:\ upstream)?
    )"""
    + _END,
    re.IGNORECASE | re.VERBOSE,
)
_CLAUSE_END = re.compile(r"(?<=[a-z0-9\])§][.!?])\s+|[\n;·∙•|]+|\s+[—–-]\s+|(?<=[\])])\s*(?=\[)|,\s+(?=(?:or|please|visit)\b)")
_WHEN = (
    r"(?:~|about\ |around\ |approximately\ )?(?:\d|an?\ |one\ |mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|"
    r"tomorrow|today|noon|midnight|later|the\ |your\ )"
)
_ACCOMPANIMENT = re.compile(
    rf"""[\s"'(\[{{§,:]*(?:$
      | (?:or|and)\b.* | ask\b.* | request\ an?\b.* | (?:will\ )?resets?\b.* | (?:your|the|all)\ (?:\S+\ ){{0,4}}?(?:limits?|quota|usage|access)\b.* | limits?\b.* | it\ will\b.*
      | (?:\w+\s+){{0,2}}(?:re)?try(?:ing)?\b.* | please\b.* | wait\b.* | check\b.* | see\b.* | visit\b.* | refer\b.* | contact\b.* | upgrad\w+\b.*
      | consider\b.* | reduce\b.* | slow\b.* | purchase\b.* | add\b.* | buy\b.* | subscribe\b.* | go\ to\b.* | switch(?:ing)?\b.* | use\ (?:another|a\ different|/)\b.*
      | send\b.* | log\ ?in\b.* | view\b.* | increase\b.* | start\ a\b.* | enable\b.* | choose\b.* | falling\ back\b.* | recharge\b.*
      | to\ (?:get|continue|increase|request|keep|use|access|avoid)\b.* | for\ (?:more|details|help|additional|further)\b.* | learn\ more\b.* | need\ more\b.* | more\ info\b.*
      | if\ (?:it|this|the|you)\b.* | this\ (?:is|may|might|model)\b.* | it\ (?:may|might|is\ usually)\b.*
      | usually\b.* | temporar\w+\b.* | possible\ quota\b.* | current\b.* | used\b.* | requested\b.* | remaining\b.*
      | attempt\b.* | request[ _-]?id\b.* | req_\S+ | (?:cf-)?ray\b.* | /\S+.* | \#\d+.* | (?:at|in|on|until|after|by)\ {_WHEN}.* | \d+[\w:.,% /]*
      | you\ (?:can|may|will|could|need)\b.* | we\ (?:will|are\ working)\b.* | the\ api\ is\ (?:at|over)\b.* | try,?.* | for\ (?:model\ )?\S+(?:\ in\ organi[sz]ation\b.*)?
      | (?:\d+\ )?(?:too\ many\ requests)\b | server[ -]side\b.* | status\b.* | \*\ quota\ exceeded\b.* | quota\ exceeded\ for\b.* | model:?\ .* | seu\ limite\b.* | error\b.*
    )$""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_PROSE = re.compile(
    r"```|\b(?:I|I'm|I've|I'll|I'd|he|she|they|let's|tests?|implemented|added|fixed|changed|renamed|refactored|removed|returns?|raises|raised|"
    r"handler|handles?|handled|parser|commit|because|should|means|describes?|prints?|printed|appears?|"
    r"which|whose|so that|reads:|the (?:message|method|function|class|banner|text|string|log|logs|example|fixture|code|client|user|users))\b"
    r"|=>|==|\bdef |\bassert\b|\breturn\b",
)
_LIST = re.compile(r"^\s*- .+\n\s*- ", re.MULTILINE)
_CODE = re.compile(r"\bFAILED\b|::|\braise [A-Z]\w*\b|\bassert|\bAssertionError\b|\b\w+\.(?:py|js|ts|go|rs|java|rb)\b(?!:\d)|[;{]\s*$")


@dataclass(frozen=True, slots=True)
class Banner:
    """A stretch of text that states a limit.

    :param text: what it says, from its first statement on.
    :param status: the HTTP status named before it, if any.
    """

    text: str
    status: int | None = None


def whole_banner(text: str, *, reported: bool) -> Banner | None:
    """Return the banner that ``text`` is, or None if it is anything else.

    :param text: with ``§`` in the place of each JSON object.
    :param reported: such an object is the report of an error.
    """
    if len(text) > _LONGEST or "```" in text or _LIST.search(text):
        return None
    lines = [line for line in text.replace("’", "'").split("\n") if not _CHROME.match(line.strip())]
    rest, status, prefixed = _without_prefixes("\n".join(lines).strip())
    if prefixed and (reported or "§" not in rest):
        # After the name of an error comes its message; what it means is for others to judge.
        return None if is_prose(rest) else Banner(rest, status)
    if rest.startswith("§"):
        return Banner(rest, status) if reported and _accompanies(rest[1:], lenient=True) else None
    match = _statement(rest, weak=True)
    if match is None:
        return None
    tail, strong = rest[match.end() :], match.re is _STRONG
    if not strong and not _is_retried(tail) and tail.strip(" .!\n"):
        return None
    return Banner(text, status or _status_in(match)) if _accompanies(tail, lenient=strong) else None


def message_of_error(text: str) -> Banner | None:
    """Return a short text, known to be an error's, as a banner, unless it is prose or code."""
    rest, status, _ = _without_prefixes(text.strip())
    if len(text) > 800 or text.count("\n") > 5 or is_prose(text):
        return None
    return Banner(rest or text, status)


def banners_within(text: str) -> Iterator[Banner]:
    """Yield the banners that stand at the beginning of a line or sentence, the last first."""
    starts = [0, *(match.end() for match in re.finditer(r"\n+|(?<=[.!?:])\s+", text))]
    for start in reversed(starts):
        line = text[text.rfind("\n", 0, start) + 1 :].split("\n", 1)[0]
        if is_prose(line):
            continue
        rest, status, prefixed = _without_prefixes(text[start : start + 1_500].replace("’", "'"))
        if match := _statement(rest, weak=prefixed or start == 0 or text[start - 1] == "\n"):
            yield Banner(rest, status or _status_in(match))
        elif prefixed:
            yield Banner(rest.split("\n", 1)[0], status)


def _without_prefixes(text: str) -> tuple[str, int | None, bool]:
    """Return the text without symbols and names of errors before it, the status among them, and whether there were any."""
    status, prefixed = None, False
    for _ in range(8):
        if noise := _NOISE.match(text):
            text = text[noise.end() :]
        if _STRONG.match(text):
            break
        prefix = _ERROR_PREFIX.match(text)
        if not prefix or not prefix.end():
            break
        status = next((int(code) for code in prefix.groups() if code), status)
        # A bare number may count anything: "429 files changed".
        prefixed = prefixed or not prefix["d"]
        text = text[prefix.end() :]
    return text.lstrip(" \t([{\"'") if not text.startswith("§") else text, status, prefixed


def _statement(text: str, *, weak: bool) -> re.Match[str] | None:
    for pattern in (_STRONG, _WEAK) if weak else (_STRONG,):
        if match := pattern.match(text):
            return match
    return None


def is_prose(text: str) -> bool:
    """Whether a stretch of text is somebody's words, or code, rather than a program's message."""
    return bool(_PROSE.search(text) or _CODE.search(text))


def _status_in(match: re.Match[str]) -> int | None:
    found = re.search(r"\b(429|529|503)\b", match[0])
    return int(found[1]) if found else None


def _is_retried(tail: str) -> bool:
    return bool(re.search(r"retry|try again|attempt|resets?\b|\bwait\b", tail, re.IGNORECASE))


def _accompanies(tail: str, *, lenient: bool) -> bool:
    """Whether what follows a statement says nothing but when the limit ends and what one can do."""
    tail = re.sub(r"https?://[^\s)\]]+", "LINK", tail).replace("LINK", "")
    for raw in _CLAUSE_END.split(tail):
        clause = raw.strip(" \t.,:!?\"'()[]{}§…*⎿")
        if not clause or _statement(clause, weak=True):
            if clause and _PROSE.search(clause):
                return False
            continue
        if _PROSE.search(clause):
            return False
        if not _ACCOMPANIMENT.match(clause) and not (lenient and len(clause.split()) <= 8):
            return False
    return True
