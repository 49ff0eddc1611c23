"""Statistics of a trace as one HTML page: no scripts, no links to elsewhere; the bars are inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from aiperf.number_text import exact
from aiperf.traces.tools.findings import findings
from aiperf.traces.tools.stats import TraceStats
from aiperf.traces.tools.stats_text import bin_label, format_duration, window_label

__all__ = ["render_html"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trace statistics: {{ name }}</title>
<style>
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #6b7280; --line: #d9dce1; --bar: #2563eb; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #9aa3af; --line: #3a3f47; --bar: #6ea0ff; --paper: #15171a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, li { max-width: 48rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 500; }
td.bar { width: 45%; padding: .2rem 0; } svg { display: block; width: 100%; height: 1rem; } rect { fill: var(--bar); }
.scroll { overflow-x: auto; }
</style></head><body>
<h1>Trace statistics: {{ name }}</h1>
<p class="soft">{{ s.format }} · {{ "{:,}".format(s.requests) }} requests{% if s.duration_s is not none %} · {{ duration }}{% endif %}{% if s.requests_per_minute is not none %} · {{ "{:,.1f}".format(s.requests_per_minute) }} requests/minute{% endif %} · {{ "{:,}".format(s.input_tokens) }} input and {{ "{:,}".format(s.output_tokens) }} output tokens</p>
{% if found %}<h2>Findings</h2><ul>{% for f in found %}<li>{{ f }}</li>{% endfor %}</ul>{% endif %}
{% if s.notes %}<h2>Notes</h2><ul>{% for n in s.notes %}<li>{{ n.text }}</li>{% endfor %}</ul>{% endif %}
<h2>Tokens per request</h2><div class="scroll"><table><tr><th></th><th>mean</th><th>median</th><th>P25</th><th>P75</th><th>P90</th><th>P99</th><th>max</th></tr>
{% for label, l in lengths %}<tr><td>{{ label }}</td>{% if l is none %}<td colspan="7">–</td>{% else %}{% for v in (l.mean, l.median, l.p25, l.p75, l.p90, l.p99, l.max) %}<td>{{ "{:,.0f}".format(v) }}</td>{% endfor %}{% endif %}</tr>
{% endfor %}</table></div>
{% for title, head, rows in bars %}<h2>{{ title }}</h2><div class="scroll"><table><tr><th>{{ head }}</th><th>requests</th><th>share</th><th></th></tr>
{% for label, count, share, width in rows %}<tr><td>{{ label }}</td><td>{{ "{:,}".format(count) }}</td><td>{{ "{:.1%}".format(share) }}</td><td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{{ label }}: {{ count }}"><rect width="{{ "%.2f"|format(width) }}" height="10"/></svg></td></tr>
{% endfor %}</table></div>{% endfor %}
{% if r %}<h2>Prefix reuse (theoretical)</h2>
<p>{{ "{:,}".format(r.total_blocks) }} blocks of {{ r.block_size }} tokens, {{ "{:,}".format(r.unique_blocks) }} unique; {{ "{:.1%}".format(r.token_hit_rate) }} of the input tokens are reusable{% if r.reused_blocks %}; an LRU cache of {{ "{:,}".format(r.blocks_for_90_percent) }} blocks serves 90&nbsp;% of that{% endif %}.</p>
<div class="scroll"><table><tr><th>cache</th><th>tokens</th><th>hit rate</th><th>per request</th></tr>
<tr><td>infinite</td><td>–</td><td>{{ "{:.1%}".format(r.hit_rate) }}</td><td>{{ "{:.1%}".format(r.request_hit_rate) }}</td></tr>
{% for c in r.bounded|reverse %}<tr><td>LRU, {{ "{:,}".format(c.blocks) }} blocks</td><td>{{ "{:,}".format(c.tokens) }}</td><td>{{ "{:.1%}".format(c.hit_rate) }}</td><td>{{ "{:.1%}".format(c.request_hit_rate) }}</td></tr>
{% endfor %}</table></div>
{% if r.turns %}<h2>Prefix reuse per turn{% if r.turns_inferred %} (turns inferred from shared prefixes){% endif %}</h2><div class="scroll"><table><tr><th>turn</th><th>requests</th><th>hit rate</th><th>shared with the first turn</th></tr>
{% for t in r.turns %}<tr><td>{{ t.turn }}{{ "+" if t.last }}</td><td>{{ "{:,}".format(t.requests) }}</td><td>{{ "–" if t.hit_rate is none else "{:.1%}".format(t.hit_rate) }}</td><td>{{ "–" if t.first_turn_share is none else "{:.1%}".format(t.first_turn_share) }}</td></tr>
{% endfor %}</table></div>{% endif %}{% endif %}
<h2>Sessions{% if s.sessions.inferred %} (inferred from prefixes){% endif %}</h2>
<p>{{ "{:,}".format(s.sessions.sessions) }} sessions, {{ "{:,}".format(s.sessions.multi_turn) }} of them with several turns; turns per session: mean {{ "{:.2f}".format(s.sessions.mean_turns) }}, median {{ exact(s.sessions.median_turns) }}, max {{ s.sessions.max_turns }}.</p>
</body></html>
"""

_Row = tuple[str, int, float, float]


def render_html(stats: TraceStats) -> str:
    from jinja2 import Environment

    bars: list[tuple[str, str, list[_Row]]] = []
    if stats.bins:
        rows = [(bin_label(b), b.count) for b in stats.bins]
        bars.append(("Request sizes", "input + output tokens", _rows(rows, stats.requests)))
    if stats.arrivals is not None:
        size = stats.arrivals.window_s
        rows = [(window_label(w.start_s, w.end_s, size), w.count) for w in stats.arrivals.windows]
        bars.append(("Arrivals", "window", _rows(rows, stats.requests)))
    page = Environment(autoescape=True).from_string(_PAGE)
    return page.render(
        exact=exact,
        name=stats.path.replace("\\", "/").rsplit("/", 1)[-1],
        s=stats,
        r=stats.reuse,
        found=findings(stats),
        bars=bars,
        duration=None if stats.duration_s is None else format_duration(stats.duration_s),
        lengths=(
            ("input + output", stats.lengths),
            ("input", stats.input_lengths),
            ("output", stats.output_lengths),
        ),
    )


def _rows(counts: Sequence[tuple[str, int]], total: int) -> list[_Row]:
    most = max(n for _, n in counts) or 1
    return [(label, n, n / total, 100 * n / most) for label, n in counts]
