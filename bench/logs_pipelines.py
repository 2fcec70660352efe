"""The questions of the guides as pipelines, each as exact as its answer can be compared.

CM-D03, CM-W05, CM-L02, CM-S01, ST-L01, ST-E03, CL-D10 to CL-D13. Where a guide greps for bare words (`select`,
`401`), which also finds sizes and times, the field is looked at instead, so that there is one right answer.
"""

from __future__ import annotations

_RANK = r"""awk -v n="$(wc -l < LOG)" '{ if (NR == r(n, 50) || NR == r(n, 95) || NR == r(n, 99)) print; v = $1 }
function r(n, p,  x) { x = n * p / 100; return x == int(x) ? x : int(x) + 1 } END { print v }'"""

PIPELINES = {
    "statuses": "awk '{print $9}' LOG | sort | uniq -c | sort -rn",
    "bytes": "awk '{s += $10} END {printf \"%.0f\\n\", s}' LOG",
    "clients": "awk '{print $1}' LOG | sort | uniq -c | sort -nr | head -20 || true",
    "client_errors": "awk '$9 ~ /^[45]/ {print $1}' LOG | sort | uniq -c | sort -nr | head -20 || true",
    "routes": r"""awk '{split($7, a, "?"); p = a[1]; gsub(/\/[0-9a-f]*-[0-9a-f-]*/, "/{id}", p);
gsub(/\/[0-9]+/, "/{id}", p); print p}' LOG | sort | uniq -c | sort -rn | head -12 || true""",
    "denied": "awk '$9 == 401 || $9 == 403' LOG | wc -l",
    "failed_logins": "grep 'POST.*login' LOG | awk '$9 == 401 || $9 == 403' | wc -l",
    "uploads": "grep 'POST.*upload' LOG | wc -l",
    "tokens": "grep -c 'POST /api/token' LOG",
    "slowest": "awk '{print $NF}' LOG | sort -n | tail -100",
    "percentiles": f"awk '{{print $NF}}' LOG | sort -n | {_RANK}",
    "sqli": r"grep -Eic 'union(%20|\+)(all(%20|\+))?select|%27%20or%20%27|;drop%20table' LOG",
    "xss": "grep -Eic '(<|%3c)script' LOG",
    "traversal": r"grep -Eic '\.\.(/|%2f)' LOG",
    "probes": r"grep -Eic '/(\.env|wp-login\.php|phpmyadmin|\.git|cgi-bin)' LOG",
    "scanners": "grep -Eic 'sqlmap|nikto|masscan|nuclei' LOG",
    "leaks": "grep -Eic '[?&](password|token|api_key)=' LOG",
    "writes_failed": "awk '$6 ~ /POST|PUT|DELETE|PATCH/ && $9 >= 400' LOG | wc -l",
}
