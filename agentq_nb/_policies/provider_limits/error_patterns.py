"""What the message of an error means: which limit, or none.

The patterns are searched in text that is known to be an error's or a banner's, so they need not tell it from prose.
"""

from __future__ import annotations

import re
from typing import Literal

from agentq_nb._policies.provider_limits.plain_text import any_of, plain
from agentq_nb._policies.provider_limits.provider_limit import LimitKind

Wording = LimitKind | Literal["never"]

GOOGLE = re.compile(
    r"resource_exhausted|generativelanguage|googleapis|cloudcode-pa|ai\.google\.dev|cloud\.google\.com"
    r"|quota exceeded for (?:quota )?metric|google\.rpc",
    re.IGNORECASE,
)
_URL = re.compile(r"https?://\S+")
_OTHER_HOSTS = re.compile(
    r"https?://(?:[\w.-]*(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|docker\.(?:com|io)|ghcr\.io|quay\.io|crates\.io"
    r"|rubygems\.org|api\.github\.com|raw\.githubusercontent\.com|gitlab\.com|huggingface\.co/(?!docs)|conda\.anaconda\.org)"
    r"|[^\s/]+/(?:[^\s/]+/)*simple/)",  # the last: a package index of one's own
    re.IGNORECASE,
)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile(any_of(*patterns), re.IGNORECASE)


_LIMITED = r"(?:limits?|quotas?|caps?|allowance|usage|capacity|budget)"
_ELSEWHERE = (
    r"(?:carts?|baskets?|coupons?|vouchers?|discounts?|promo\w*|orders?|purchases?|invoices?|shipments?|deliver(?:y|ies)"
    r"|warehouses?|inventory|bookings?|reservations?|tickets?|seats?|customers?|subscribers?|members?|guests?|licen[cs]es?"
    r"|mail(?:box(?:es)?|s)?|e-?mails?|inbox|smtp|sms|notifications?|newsletters?|exports?|imports?|reports?|backups?"
    r"|snapshots?|artifacts?|storage|volumes?|folders?|bandwidth|drive|goals?|votes?|posts?|comments?|uploads?|downloads?"
    r"|pods?|cpus?|gpus?|vcpus?|ram|namespaces?|compute-resources|addresses|devices?|rooms?|passengers?|weights?|speed"
    r"|vacation|leave|overtime|loans?|cards?|transfers?|withdrawals?|overdrafts?|sandbox|gateway|cluster|database|webhooks?)"
)
"""What shops, mail, disks and other services limit."""

# Neither waiting nor paying helps, or the limit is another service's.
_NEVER = _any(
    r"context[ _-]?(?:length|window|limit|size)",
    r"(?:prompt|input|conversation|message)s? (?:is|are|was) too (?:long|large)",
    r"long[- ]context|1m context",
    r"(?:request|payload|body|file|image|attachment|output) (?:is |was |entity )?too large",
    r"maximum (?:number of )?(?:turns|iterations|steps|tokens allowed)|max[_ ]turns|max_tokens",
    r"budget",
    r"pull rate limit|toomanyrequests|docker",
    r"\bgithub(?! copilot)|secondary rate limit|abuse detection|rate limit exceeded for (?:user|installation|\d+\.\d+)",
    r"\bgitlab|bitbucket|\bnpm\b|\bpypi\b|\bpip\b|crates\.io|rubygems|\bmaven\b|homebrew|\bapt\b",
    r"\bcurl\b|\bwget\b|requested url returned|unable to access|graphql|rate limit already exceeded",
    r"web ?search|search api|brave|tavily|serper|reddit|twitter|slack|discord|telegram|notion|jira|stripe|shopify|let'?s ?encrypt",
    r"(?:connection|client|user|seat|row|line|stack)s? limit|too many (?:connections|clients|files|redirects|arguments|auth|certificates|levels)",
    r"disk|inode|storage quota|file descriptors?|open files|memory limit|recursion",
    r"(?:time|size|depth|character|line|word|login|sign-?in|upload|download|file) (?:limit|attempts)",
    rf"\b{_ELSEWHERE}(?:'s)?(?:[ _-]\w+){{0,2}}[ _-]{_LIMITED}\b",
    rf"\b{_LIMITED}(?: (?:has|have|had|been|was|is|are|reached|exceeded|exhausted|hit|met|used up))* (?:for|of|on|in|by|from)"
    rf"(?: [\w'-]+){{0,3}}? {_ELSEWHERE}\b",
    rf"\b{_LIMITED} (?:reached|exceeded)\W+\d+ (?!tokens?|requests?|messages?|hours?|min|sec)[a-z]{{3,}}",
    r"\b(?:firestore|firebase|bigquery|datastore|spanner|youtube|gmail|dynamodb|lambda|kinesis|s3|ec2|nginx)\b|\bfor (?:the )?ip\b",
    r"quotaexceedederror|setitem|insufficient storage|no space left|enospc|edquot",
    # Warnings and changes: work goes on.
    r"\bapproaching|close to (?:your|the)|nearing|almost (?:at|reached)|about to (?:hit|reach)",
    r"used (?:about |over |more than )?\d+(?:\.\d+)?\s?%|\d+(?:\.\d+)?\s?% (?:used|of (?:your|the))",
    r"now using|now on|continuing (?:with|on)",
)
# Requests of a size that never passes, however long one waits.
_TOO_BIG = re.compile(r"limit:?\s*([\d,]+)\b.{0,60}?requested:?\s*([\d,]+)", re.IGNORECASE | re.DOTALL)

_BILLING = _any(
    r"credit balance",
    r"insufficient (?:\w+ )?(?:balance|quota|credits?|funds)|insufficient_(?:quota|balance|credits?|funds)",
    r"(?:balance|funds) (?:is |are )?(?:too low|insufficient|exhausted|not enough)",
    r"(?:no|out of|not enough|ran out of|run out of|depleted|exceeded|exhausted|used (?:up|all)|zero|0) (?:of )?(?:your |the |any |all )*"
    r"(?:(?:monthly|prepaid|prepayment|included|remaining|free|available|api|more) )*credits?\b",
    r"credits? (?:are |is |have been |has been |were |was )?(?:exhausted|depleted|required|used up|expired|ran out)",
    r"spend(?:ing)?[ _-](?:limit|cap)|(?:limit|cap) on spend",
    r"billing (?:hard |soft )?limit|billing_(?:error|hard_limit|not_active)|billing is (?:disabled|not (?:active|enabled))",
    r"billing (?:account|details) (?:is|are|not|disabled)|(?:set up|enable|activate) billing|not active.{0,40}billing",
    r"payment (?:is )?(?:required|method|failed|declined|overdue)|overdue (?:invoice|balance|payment)|unpaid",
    r"recharge|top[- ]?up|add funds|arrear",
    r"specified (?:workspace |organization )?api usage limits?",
    r"regain access on",
    r"\blimit:\s*0\b(?![.,]\d)",
    r"key limit exceeded",
    r"requires? (?:\w+ )?more credits|can only afford",
    r"used all available credits|monthly spend",
    r"quota exceeded\. check your plan and billing",
    r"usage not included|to use codex with your chatgpt plan, upgrade",
    r"account (?:has been |is )?(?:suspended|deactivated)[^.]*(?:billing|payment|balance)",
    r"余额不足|欠费|额度不足|充值",
)
_BILLING_UNLESS_GOOGLE = _any(r"exceeded your current quota.{0,40}billing")

_LONG_WINDOW = _any(
    r"usage[ _-]?limits?\b",
    r"free usage|extra usage|out of usage|used (?:up|all) (?:of )?(?:your |the )?(?:\w+ )?usage|usage (?:has been )?(?:exceeded|exhausted)|(?:exceeded|reached|hit|exhausted|used up) your .{0,30}usage",
    r"(?:session|weekly|daily|monthly|hourly|\d+[- ]?h(?:ou)?r?|five[- ]hour|\d+[- ]day|opus|sonnet|haiku|fable|mythos|model|plan|premium)"
    r"[ -](?:\w+ ){0,3}(?:limits?|quota|cap|allowance)\b",
    r"(?:hit|reached|exceeded|exhausted) your (?:\S+ )?limits?(?: for [^.]*?(?:messages|claude|opus|sonnet|gpt|codex))?",
    r"limit for claude messages|messages? limit",
    r"account's rate limit",
    r"exhausted your (?:capacity|quota|daily quota|weekly quota)",
    r"per[ _-]?day|perday|per[ _-]?week|per[ _-]?month|per[ _-]?24|\brpd\b|\btpd\b|daily",
    r"quota (?:will |)reset",
    r"limite? de (?:uso|mensagens|mensajes|mensajería)|l[ií]mite de uso|limite d'utilisation|nutzungslimit|limite di utilizzo",
    r"使用上限|使用限额|使用量上限|利用上限|使用制限|利用制限|사용 한도|사용량 한도",
)
_TOKENS = _any(
    r"tokens?[ _-](?:\w+[ _-])?per[ _-]?(?:min|sec|hour)",
    r"\btpm\b|\bitpm\b|\botpm\b|per[- ]minute token",
    r"(?:input|output|request|prompt|completion|cached)[ _-]?tokens? (?:count |rate )?(?:per|rate|limit|has exceeded|exceed)",
    r"token[ _-]?(?:rate[ _-]?limit|quota|limit exceeded)|rate limit.{0,20}\btokens\b|too many tokens",
    r"number of (?:request |input |output )?tokens",
    r"tokens/min|token_count|tokenspermodel|tokensperminute",
)
_OVERLOADED = _any(
    r"overloaded(?! (?:function|method|operator|signature|constructor|call))|overload_?error",
    r"(?:at|over|no|out of|insufficient|limited|exceeded|temporary) (?:\w+ )?capacity\b(?! issue)|capacity (?:exceeded|exhausted|available)",
    r"(?:high|heavy|unusually high|increased|exceptional) (?:demand|load|traffic|volume)",
    r"error-code-429",
    r"(?:server|model|engine|service)s? (?:is|are) (?:currently |temporarily |too )*(?:busy|unavailable)",
    r"service (?:is )?(?:temporarily )?unavailable",
)
_REQUESTS = _any(
    r"rate[ _-]?limit",
    r"temporarily limiting requests",
    r"no deployments available",
    r"\brpm:",
    r"too many (?:requests|concurrent)",
    r"throttl|slow down",
    r"resource (?:has been )?exhausted|resource_exhausted|resourceexhausted",
    r"quota (?:has been )?exceeded|exceeded (?:your|the) (?:current |api |request )*quota|quota limit",
    r"requests? (?:\w+ )?per[ -]?(?:min|sec|hour)|\brpm\b|\brps\b",
    r"concurren\w+ (?:requests?|connections?|limit)|(?:max|maximum) .{0,20}concurren",
    r"rate increased too quickly|request rate",
    r"(?:last status|status(?: code)?|http(?: error)?|error(?: code)?|rejected)\W{0,3}429",
    r"请求(?:过于|太)?(?:频繁|过多)|リクエストが多すぎ|速率限制|レート制限|요청이 너무 많",
)
_HIT = _any(
    r"\bhit\b|reach|exceed|exhaust|used (?:up|all)|\bover\b|out of|too many|resets?\b|again|retry|throttl|reject|run out|\b429\b|limited",
    r"atingi|alcanz|superad|llegado|atteint|erreicht|überschritten|raggiunto|达到|超出|已达|達し|초과|도달",
)
_NOT_THE_PLANS = re.compile(r"\(not your usage limit\)", re.IGNORECASE)
_EXHAUSTED_CAPACITY = re.compile(r"exhausted your capacity|quota will reset", re.IGNORECASE)


def meaning(message: str, *, google: bool = False, limited: bool = False) -> Wording | None:
    """Return which limit the message of an error states, ``"never"`` if it is certainly none, or None if it says nothing.

    :param limited: something else than the message says that a limit was hit.
    :param google: it comes from Google, where "check your plan and billing details" stands in every error of quotas.
    """
    text = _URL.sub(lambda url: " error-code-429 " if "error-code-429" in url[0] else " ", message)
    text = _NOT_THE_PLANS.sub(" ", re.sub(r"\s+", " ", plain(text)))
    google = google or bool(GOOGLE.search(message))
    if _BILLING.search(text) and not (_free_plan(text) or _warning(text)):
        return "billing"
    if _NEVER.search(text) or _OTHER_HOSTS.search(message) or _is_too_big(text):
        return "never"
    if not google and _BILLING_UNLESS_GOOGLE.search(text):
        return "billing"
    if _EXHAUSTED_CAPACITY.search(text):
        return "usage-window"
    if re.search(r"error-code-429|no capacity", text, re.IGNORECASE):
        return "overloaded"
    patterns: tuple[tuple[LimitKind, re.Pattern[str]], ...] = (
        ("usage-window", _LONG_WINDOW),
        ("tokens", _TOKENS),
        ("overloaded", _OVERLOADED),
        ("requests", _REQUESTS),
    )
    was_hit = limited or bool(_HIT.search(text))
    return next(
        (
            kind
            for kind, pattern in patterns
            if pattern.search(text) and (was_hit or kind in ("overloaded", "requests"))
        ),
        None,
    )


def _free_plan(text: str) -> bool:
    """Whether buying is only one way out, beside waiting."""
    return bool(re.search(r"free usage|free-models|usage limit(?! s)", text, re.IGNORECASE)) and not re.search(
        r"specified (?:\w+ )?api usage limit|regain access|credit balance", text, re.IGNORECASE
    )


def _warning(text: str) -> bool:
    return bool(re.search(r"approaching|\d\s?% used", text, re.IGNORECASE))


def _is_too_big(text: str) -> bool:
    if match := _TOO_BIG.search(text):
        limit, requested = (int(part.replace(",", "")) for part in match.groups())
        return requested > limit > 0
    return False
