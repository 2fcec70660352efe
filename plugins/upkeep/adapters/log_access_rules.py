"""What attacks, scanners and leaks look like in a request.

The kinds and numbers are those of the OWASP Core Rule Set 4 (https://coreruleset.org), as which WAFs report the same
requests; the patterns are our own, narrower than theirs: a log holds only addresses, and nobody blocks on our word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from upkeep.core.access_log import AttackKind


@dataclass(frozen=True)
class Rule:
    """A signature: its number in the Core Rule Set, and what is searched in the decoded text."""

    kind: AttackKind
    number: int
    title: str
    pattern: re.Pattern[bytes]


def _rule(kind: AttackKind, number: int, title: str, pattern: bytes) -> Rule:
    return Rule(kind, number, title, re.compile(pattern, re.IGNORECASE | re.DOTALL))


# Blanks between words of SQL are also written as comments.
_GAP = rb"(?:\s|/\*.{0,64}?\*/|\+|\()+"

RULES = (
    _rule("sqli", 942270, "UNION SELECT",
          rb"\bunion" + _GAP + rb"(?:(?:all|distinct)" + _GAP + rb")?select\b"),
    _rule("sqli", 942130, "always true condition",
          rb"(?:'|\"|\)|\d)\s*(?:\bor\b|\band\b|\|\||&&)\s*\(*\s*(?:'|\")?\s*(\w{1,20})(?:'|\")?\s*(?:=|like)"
          rb"\s*(?:'|\")?\s*\1"),
    _rule("sqli", 942160, "sleep or benchmark",
          rb"\b(?:sleep|pg_sleep|benchmark)\s*\(\s*\d|\bwaitfor\s+delay\b|\bdbms_pipe\.receive_message\b"),
    _rule("sqli", 942140, "catalogue of a database",
          rb"\binformation_schema\b|\bpg_catalog\b|\bpg_shadow\b|\bsqlite_master\b|\bsysobjects\b|@@version\b"),
    _rule("sqli", 942350, "stacked statement",
          rb"['\");]\s*;?\s*(?:drop|alter|truncate)\s+(?:table|database|schema)\b"
          rb"|;\s*(?:drop|delete|insert|update|exec|shutdown)\b\s+\w"),
    _rule("sqli", 942440, "comment that ends a statement", rb"['\"]\s*\)*\s*(?:;?\s*--(?:\s|-|$)|#\s*$|/\*)"),
    _rule("sqli", 942190, "xp_cmdshell and files", rb"\bxp_cmdshell\b|\binto\s+(?:out|dump)file\b|\bload_file\s*\("),
    _rule("xss", 941110, "script tag", rb"<\s*/?\s*script\b"),
    _rule("xss", 941120, "event handler", rb"(?:<[^>]{1,200}|['\"])[\s/]+on[a-z]{3,20}\s*="),
    _rule("xss", 941170, "javascript address", rb"(?:javascript|vbscript)\s*:\s*[\w(]|data:text/html\s*[;,]"),
    _rule("xss", 941320, "tag that runs something",
          rb"<\s*(?:iframe|svg|object|embed|base|applet|img\s+src\s*=\s*x)\b"),
    _rule("traversal", 930110, "path traversal", rb"(?:^|[/\\=?&;:])\.\.[/\\;]|[/\\]\.\.(?:$|[/\\?])"),
    _rule("traversal", 930120, "file of the operating system",
          rb"/etc/(?:passwd|shadow|hosts|group)\b|/proc/self/|\bboot\.ini\b|\bwin\.ini\b|/windows/system32"),
    _rule("command", 944150, "Log4Shell", rb"\$\{\s*(?:jndi|\$\{|lower:|upper:|env:|::-)"),
    _rule("command", 932170, "Shellshock", rb"\(\s*\)\s*\{\s*[:_a-z]?\s*;"),
    _rule("command", 932160, "shell command",
          rb"(?:[;|`]|&&|\$\()\s*(?:cat|wget|curl|nc|bash|sh|id|whoami|uname|ping|python\d?|perl)\b(?:\s|%|$|\)|`|;|/)"
          rb"|/bin/(?:ba)?sh\b"),
    _rule("command", 933200, "wrapper of PHP", rb"\b(?:php://(?:input|filter)|expect://|phar://)"),
)  # fmt: skip

# What a rule can match must first match these, which RE2 asks of whole columns: SPECIAL of every address, LIKELY of
# what that left. LIKELY knows signs in plain and in percent-encoding; whoever encodes letters or digits, or encodes
# twice, has something to hide.
SPECIAL = (
    r"[%+'\"<>(;*\\`|${}@]|\.\.|&&"
    r"|(?i:/etc/|/proc/|information_schema|sysobjects|sqlite_master|pg_catalog|pg_shadow|script:|_cmdshell|waitfor|dbms_pipe|php:"
    r"|expect:|phar:|/bin/|system32|\.ini|text/html)"
)
_BLANK = r"(?:%20|\+|%09|%0[abcd]|\s|/\*|%2f\*|/%2a|%2f%2a|\(|%28)"
_QUOTE = r"(?:'|\"|%27|%22)"
_DOT = r"(?:\.|%2e|%c0%ae)"
_SLASH = r"(?:/|%2f|\\|%5c|%c0%af|%c1%9c)"
LIKELY = "(?i)" + "|".join(
    (
        rf"union{_BLANK}.*select",
        rf"(?:{_QUOTE}|\)|%29|[0-9]){_BLANK}*(?:or|and)(?:{_BLANK}|{_QUOTE}).*(?:=|%3d|like)",
        r"(?:\||%7c)(?:\||%7c).*(?:=|%3d|like)|(?:&|%26)(?:&|%26).*(?:=|%3d|like)",
        rf"(?:sleep|benchmark){_BLANK}|waitfor|dbms_pipe",
        r"information_schema|pg_catalog|pg_shadow|sqlite_master|sysobjects|(?:@|%40)(?:@|%40)version",
        rf"(?:drop|alter|truncate){_BLANK}+(?:table|database|schema)",
        rf"(?:;|%3b){_BLANK}*(?:drop|delete|insert|update|exec|shutdown)",
        rf"{_QUOTE}(?:{_BLANK}|\)|%29|;|%3b)*(?:--|#|%23|/\*|%2f)",
        rf"cmdshell|into{_BLANK}+(?:out|dump)file|load_file",
        rf"(?:<|%3c)(?:{_BLANK}|/|%2f)*(?:script|iframe|svg|object|embed|base|applet|img)",
        rf"(?:<|%3c|{_QUOTE}).*on[a-z]{{3,20}}{_BLANK}*(?:=|%3d)",
        rf"script{_BLANK}*(?::|%3a)|data(?::|%3a)text",
        rf"{_DOT}{_DOT}(?:{_SLASH}|;|%3b|\?|%3f|$)|etc{_SLASH}|proc{_SLASH}|{_DOT}ini|system32",
        rf"(?:\$|%24)(?:\{{|%7b)|(?:\)|%29){_BLANK}*(?:\{{|%7b)",
        rf"(?:;|%3b|\||%7c|`|%60|&&|%26|\$\(|\$%28|%24){_BLANK}*(?:cat|wget|curl|nc|bash|sh|id|whoami|uname|ping|python|perl)",
        rf"bin{_SLASH}|(?:php|expect|phar)(?::|%3a)",
        r"%(?:25|00|2d|2e|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])|%u[0-9a-f]|\\x[0-9a-f]",
    )
)

PROBES: dict[str, str] = {  # name -> RE2 pattern of a path; OWASP CRS 930130 (restricted files) and 933
    ".env": r"/\.env(\.|$|/)",
    ".git": r"/\.(git|svn|hg)(/|$)",
    "credentials": r"/\.(aws|ssh|docker|kube|npmrc|htpasswd|htaccess)|/(id_rsa|credentials|secrets?\.(ya?ml|json))$",
    "wordpress": r"/(wp-login\.php|xmlrpc\.php|wp-admin|wp-content|wp-includes|wp-config)",
    "phpmyadmin": r"/(phpmyadmin|pma|myadmin|mysqladmin|adminer(\.php)?|dbadmin)(/|$)",
    "php shell": r"/(shell|cmd|c99|r57|eval-stdin|alfa|wso|webshell)\.(php|jsp|aspx?)|/vendor/phpunit/",
    "backup": r"\.(sql|bak|old|dump|swp)(\.gz|\.zip|\.bz2)?$|/(backup|dump|db|database)\.(zip|tar|tgz|tar\.gz|rar|7z)$",
    "cgi": r"/cgi-bin/|/boaform/|/HNAP1|/GponForm/|/setup\.cgi",
    "management": r"/(actuator|jmx-console|manager/html|solr/admin|server-status|_ignition|telescope)(/|$)|/console/?$",
    "dot net": r"/(web\.config|trace\.axd|elmah\.axd)$|/owa/|/ecp/|/autodiscover/",
}

SCANNERS = (  # OWASP CRS 913100, lower case
    "sqlmap", "nikto", "nmap", "masscan", "zgrab", "nessus", "openvas", "acunetix", "wpscan", "dirbuster", "gobuster",
    "feroxbuster", "ffuf", "wfuzz", "nuclei", "burp", "hydra", "havij", "w3af", "arachni", "skipfish", "netsparker",
    "qualys", "whatweb", "jorgee", "morfeus", "zmeu", "l9explore", "l9tcpid", "censysinspect", "expanse",
    "paloaltonetworks", "projectdiscovery", "fuzz faster", "detectify", "commix", "xsser", "dirsearch", "sqlninja",
    "metasploit", "owasp",
)  # fmt: skip


def decoded(text: bytes) -> bytes:
    r"""Undo what hides an attack: percent-encoding (up to three times over), `+`, `%uXXXX` and a server's `\xNN`.

    >>> decoded(b"/a?q=%2527%20or+1%3D1")
    b"/a?q=' or 1=1"
    """
    text = _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), text)
    text = _UNICODE.sub(lambda m: chr(int(m[1], 16)).encode("utf-8", "replace"), text)
    for _ in range(3):
        again = unquote_to_bytes(text.replace(b"+", b" "))
        if again == text:
            break
        text = again
    # Overlong UTF-8 of `.`, `/` and `\`, which old servers decode.
    return text.replace(b"\xc0\xae", b".").replace(b"\xc0\xaf", b"/").replace(b"\xc1\x9c", b"\\").replace(b"\0", b"")


_ESCAPE = re.compile(rb"\\x([0-9A-Fa-f]{2})")
_UNICODE = re.compile(rb"%u([0-9A-Fa-f]{4})")
_LONGEST = 8192


def attacks(text: bytes) -> tuple[Rule, ...]:
    """Return the rules that a text matches, one of each kind; of a very long text the beginning and the end count."""
    plain = decoded(text if len(text) <= 2 * _LONGEST else text[:_LONGEST] + b" " + text[-_LONGEST:])
    found: dict[str, Rule] = {}
    for rule in RULES:
        if rule.kind not in found and rule.pattern.search(plain):
            found[rule.kind] = rule
    return tuple(found.values())
