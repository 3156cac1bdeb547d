"""The sentences in which programs state that a limit was hit, and what else stands in their banners.

All patterns are matched at the beginning of a line or sentence of plain text, without regard to case.
"""

from __future__ import annotations

import re

from agentq_nb._policies.provider_limits.plain_text import any_of

_WORDS = r"(?:[\w'+.-]+ ){0,5}?"  # "your ChatGPT", "the 5-hour Opus", ...
_LIMIT = r"(?:limits?|quota|allowance|cap|usage|capacity|credits?|messages|requests|prompts)"
_SPENT = r"(?:reached|exceeded|hit|exhausted|depleted|used up|too low)"
_FOR = r"(?: for [^.·|\n,:]{1,80}?(?=\.|\s·|\||$|\n|,|:| or | until ))?"
_BUSY = r"(?:experiencing (?:\w+ )?(?:high|heavy) (?:demand|load|traffic)(?: right now| at the moment)?)"
_PLAN = (
    r"(?:[\w-]*-)?(?:usage|session|weekly|daily|monthly|hourly|hour|day|opus|sonnet|haiku|fable|plan|account|messages?"
    r"|premium|free[\w-]*|tier|claude|gpt\S*|gemini|codex|model|chatgpt|credit)s?"
)
_END = (
    r"(?=\s*(?:$|[.!,;:·|()\[\]{}§\-\"'\n]"
    r"|\b(?:or|until|resets?|try|please|retry|retrying|and\s+(?:will|try|please)|your|in|on|at|to\s+(?:access|get|continue)|seu)\b))"
)

_YOU = (
    r"(?:sorry, |unfortunately, )?you(?:'ve| have|'re| are)? (?:now |already |currently |temporarily )?"
    r"(?:(?:being |been )?rate[- ]limited"
    r"|(?:hit|reached|exceeded|exhausted|used up|used all(?: of)?|run out of|ran out of|out of|over|maxed out|surpassed|depleted)"
    rf" (?:all |of |your |the |this |our |any )*{_WORDS}{_LIMIT})" + _FOR
)
_PLANS_LIMIT = (
    r"(?!(?:when|if|once|after|until|before|because|i|we|they|he|she|it|a|an|no|what|how|why|where|that|test)\b)"
    rf"{_WORDS}{_PLAN} (?:\w+ )?(?:limits?|quota|allowance|cap|usage|balance|credits) "
    rf"(?:has been |have been |was |is |were |already |been )*{_SPENT}" + _FOR
)

STRONG = re.compile(
    any_of(
        # Limits of plans.
        _YOU,
        _PLANS_LIMIT,
        r"free usage (?:limit )?exceeded",
        r"your (?:account|team|organi[sz]ation|workspace)\b[^\n.:]{0,80}?"
        r"(?:reached [^\n.:,]{1,60}|used all [^\n.]{1,80}|out of credits)",
        # Limits of APIs.
        r"rate limit (?:reached|exceeded) for [^\n]{1,80}? (?:in organi[sz]ation|on (?:tokens|requests|[\w-]+ per)) [^\n:]{1,80}(?=:)",
        r"(?:this|the|your) requests? (?:would|will|has|have|was|were|is) .{0,30}?"
        r"(?:exceed|exceeded|exceeds|throttled|rate[- ]limited|rejected)\b[^.\n]{0,140}?(?:limits?|rate|throttled|limited|quota)\b"
        r"(?: of [^.\n]{1,60})?",
        r"requests to .{1,120}? have exceeded [^.\n]{1,100}",
        r"number of [\w ]{1,60}? (?:exceeds?|has exceeded) [^.\n]{1,60}limits?",
        r"resource has been exhausted(?: \(e\.g\. check quota\))?|resource exhausted|resource_exhausted",
        r"quota exceeded for (?=[^\n]*(?:metric|googleapis|model|tokens?|requests?|per (?:minute|day|hour)))[^\n]{1,300}?(?=\.\s|\.?$|\n)",
        r"exceeded retry limit, last status:? (?:429|529|503)[^,\n]{0,40}",
        r"too many requests, the rate limit is [^.\n]{1,80}",
        r"too many (?:tokens|requests), please wait before trying again",
        r"(?:repeated )?529 overloaded(?: errors?)?|request rejected \(429\)",
        # Providers without capacity.
        r"no capacity available for model [^\n.]{1,80}",
        r"(?:the |our |this |that |selected |requested )?(?:[\w.-]+ )?"
        r"(?:model|engine|servers?|services?|provider|api|backend|system|claude|openai|anthropic|gemini) (?:is|are) (?:currently |temporarily )?"
        rf"(?:overloaded(?: with other requests)?|(?:at|over) capacity|{_BUSY})",
        rf"we(?:'re| are) (?:currently )?{_BUSY}{_FOR}(?:, which may cause temporary errors)?",
        # Money.
        r"you have no (?:\w+ )?credits? (?:remaining|left)",
        r"(?:your )?credit balance is too low(?: to access the [\w ]+)?",
        r"insufficient (?:account )?(?:balance|credits?|funds|quota)(?: or no resource package)?",
        r"no payment method",
        r"billing hard limit has been reached|spend(?:ing)? limit reached|payment required",
        r"quota exceeded\. check your plan and billing details",
        # Other languages.
        r"voc[êe] atingiu [^.\n]{1,160}",
        r"has (?:alcanzado|llegado a|superado) [^.\n]{1,60}?l[ií]mite[^.\n]{0,40}",
        r"vous avez atteint [^.\n]{1,60}?limite[^.\n]{0,40}",
        r"(?:sie haben|du hast) [^.\n]{1,60}?limit (?:erreicht|[üu]berschritten)",
        r"hai raggiunto [^.\n]{1,60}?limite[^.\n]{0,40}",
        r"(?:您|你)?(?:已|已经)?(?:达到|超出|达)[^.\n。]{0,20}(?:上限|限额|限制)",
        r"[^.\n。]{0,20}(?:利用|使用)(?:量)?(?:上限|制限)に達しました",
        r"[^.\n]{0,20}사용 ?(?:량 )?한도[^.\n]{0,20}",
    )
    + _END,
    re.IGNORECASE,
)
"""Statements that no prose begins with: they need nothing beside them."""

WEAK = re.compile(
    any_of(
        r"(?:api )?rate[ -]?limits? (?:(?:is|was|has been|have been) )?(?:exceeded|reached|hit|rejected)" + _FOR,
        r"(?:api )?rate[ -]?(?:limited|limit error)" + _FOR,
        r"too many (?:concurrent )?(?:requests|tokens|connections)",
        r"(?:provider|server|model|service|engine)? ?(?:is )?(?:currently |temporarily )?overloaded(?:_error)?",
        r"throttl(?:ed|ing)(?:exception)?|(?:request|you) (?:was|were) throttled",
        r"service (?:temporarily )?unavailable|slow down|at capacity",
        r"quota (?:has been )?exceeded|usage exceeded|rate_limit_error|rate_limit_exceeded|insufficient_quota",
        r"(?:request )?rate increased too quickly",
        r"(?:you )?exceeded your current quota",
        r"[\w./:-]+ is temporarily rate[- ]limited(?: upstream)?",
    )
    + _END,
    re.IGNORECASE,
)
"""Statements that may begin prose too: they count after an error's name, alone, or with when to try again."""

_WHEN = (
    r"(?:~|about |around |approximately )?(?:\d|an? |one |mon|tue|wed|thu|fri|sat|sun"
    r"|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|tomorrow|today|noon|midnight|later|the |your )"
)
ACCOMPANIMENT = re.compile(
    r"[\s\"'(\[{§,:]*(?:$|"
    + any_of(
        # When it ends.
        r"(?:will )?resets?\b",
        r"(?:your|the|all) (?:\S+ ){0,4}?(?:limits?|quota|usage|access)\b",
        r"limits?\b",
        r"it will\b",
        r"(?:\w+\s+){0,2}(?:re)?try(?:ing)?\b",
        rf"(?:at|in|on|until|after|by) {_WHEN}",
        r"attempt\b|#\d+",
        # What one can do.
        r"(?:or|and|please|wait|check|see|visit|refer|contact|ask|consider|reduce|slow|purchase|add|buy|subscribe|send|view|increase"
        r"|enable|choose|recharge|upgrad\w+|switch(?:ing)?)\b",
        r"(?:go to|request an?|start a|log ?in|falling back|learn more|need more|more info|server[ -]side)\b",
        r"use (?:another|a different|/)",
        r"to (?:get|continue|increase|request|keep|use|access|avoid)\b",
        r"for (?:more|details|help|additional|further)\b|for (?:model )?\S+(?: in organi[sz]ation\b.*)?$",
        r"you (?:can|may|will|could|need)\b|we (?:will|are working)\b",
        r"if (?:it|this|the|you)\b",
        r"/\S",
        # What it was.
        r"this (?:is|may|might|model)\b|it (?:may|might|is usually)\b",
        r"(?:usually|temporar\w+|current|used|requested|remaining|status|error|seu limite)\b",
        r"possible quota\b|the api is (?:at|over)\b|(?:\d+ )?too many requests\b|(?:\* )?quota exceeded for\b|model:? ",
        r"request[ _-]?id\b|req_\S|(?:cf-)?ray\b",
        r"\d+[\w:.,% /]*$|[\w.:/-]+$",
    )
    + ")",
    re.IGNORECASE,
)
"""What a clause begins with that may stand beside a statement."""

PROSE = re.compile(
    r"```|=>|==|\bdef |\breturn\b|"
    r"\b(?:I|I'm|I've|I'll|I'd|he|she|they|let's|tests?|implemented|added|fixed|changed|renamed|refactored|removed|returns?"
    r"|raises|raised|handler|handles?|handled|parser|commit|because|should|means|describes?|prints?|printed|appears?|which(?! may cause)|whose"
    r"|so that|(?:is|are|was|were|gets) returned|returned by|reads:|429 if|used by"
    r"|the (?:message|method|function|class|banner|text|string|log|logs|example|fixture|code|client|user|users))\b"
)
"""Signs of text that a person wrote."""

CODE = re.compile(
    any_of(
        r"\bFAILED\b|\bAssertionError\b|\bassert\b",
        r"::|=>|->|\"\"\"|\bself\.|: Final\b|\bexc_info\b|%s",
        r"\braise [A-Z]\w*|\bawait \w|\blambda\b|\bexcept [A-Z]|^\s*(?:class|def|from|import|if|return) \w[\w.]*.*:?\s*$",
        r"\w\.\w+\((?!s\))|\w_\w+\(|\w\(\s*$",
        r"\b\w+\.(?:py|js|ts|go|rs|java|rb)\b(?!:\d)",
        r"^\s*\w+(?:: \w[\w\[\], |.]*)? = ",
        r"\w \| [A-Z]\w+|\w\[[A-Z]\w*\]|[<>]=|: (?:bool|str|int|float|None)\b|\bf\"|\" in \w",
        r"[;{,(]\s*$",
    ),
    re.MULTILINE,
)
"""Signs of code, or of the output of tests."""
