"""A verdict as one HTML page: the picture of the counter-example, and everything in words.

The page stands alone: styles and drawing are inside, there is no script, and its own policy
forbids it to load anything. It is light or dark as the reader's system is, and prints on paper. It
knows nothing of the search or of files.

Invariant: whatever a history contains is text on the page, never markup.
"""

from __future__ import annotations

from html import escape
from typing import Final

from quorate.checking.explain import Window, plain, shorten
from quorate.checking.history import Operation
from quorate.checking.model import Model
from quorate.checking.timeline_picture import Picture
from quorate.checking.verdict import Answer, Verdict

_CELL_CHARS_MAX: Final = 400
_MEANING: Final = {
    Answer.LINEARIZABLE: (
        "good",
        "An order of the operations exists that explains every result and respects real time.",
    ),
    Answer.NOT_LINEARIZABLE: ("bad", "No order of the operations explains every result."),
    Answer.UNDECIDED: (
        "open",
        "The budget ended before the search did: more time or memory may decide these objects.",
    ),
}

_STYLE: Final = """
:root{color-scheme:light dark;--page:#fcfcfa;--card:#fff;--ink:#1d2430;--muted:#667080;
--line:#e3e5e8;--bar:#eef1f6;--edge:#b3bdcc;--done:#e1ebfb;--done-edge:#6f9be0;--point:#2b62c4;
--bad:#c02f26;--bad-bar:#fce3e0;--good:#1c7a45;--open:#96650a;--state:#e8f0e6;--odd:#dbe8d8;--on-point:#fff}
@media(prefers-color-scheme:dark){:root{--page:#14171c;--card:#1b1f26;--ink:#e4e8ee;
--muted:#949eae;--line:#2d333d;--bar:#262c36;--edge:#566173;--done:#1f3354;--done-edge:#4d7fce;
--point:#5f95ee;--bad:#ff766b;--bad-bar:#4a2221;--good:#5fca8d;--open:#e0aa46;--state:#233328;
--odd:#2b4032;--on-point:#0e1116}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 64px}
h1{font-size:22px;margin:10px 0 6px;overflow-wrap:anywhere}
h2{font-size:15px;margin:34px 0 10px}
.badge{display:inline-block;padding:2px 11px;border-radius:99px;font-weight:600;font-size:13px;
border:1.5px solid currentColor}
.badge.good{color:var(--good)}.badge.bad{color:var(--bad)}.badge.open{color:var(--open)}
.sentence{font-size:17px;max-width:76ch;margin:8px 0 14px;overflow-wrap:anywhere}
.facts{display:flex;flex-wrap:wrap;gap:6px 28px;margin:0;color:var(--muted);font-size:13px}
.facts b{color:var(--ink);font-weight:600}
code,.mono,svg text{font-family:ui-monospace,SFMono-Regular,Menlo,"DejaVu Sans Mono",monospace}
figure{margin:26px 0 0;background:var(--card);border:1px solid var(--line);border-radius:10px}
.picture{display:flex}.picture>svg{flex:none;border-right:1px solid var(--line)}
.scroll{overflow-x:auto;flex:1}svg{display:block}svg text{font-size:11px;fill:var(--ink)}
.name{font-weight:600}.muted{fill:var(--muted);color:var(--muted);font-weight:400}
.lane{stroke:var(--line)}.thread{stroke:var(--point);stroke-dasharray:2 3;opacity:.55}
.bar rect{fill:var(--bar);stroke:var(--edge)}
.bar.done rect{fill:var(--done);stroke:var(--done-edge)}
.bar.stuck rect{fill:var(--bad-bar);stroke:var(--bad);stroke-width:1.6}
.bar.unknown rect{stroke-dasharray:5 4}
.bar:hover rect{stroke-width:2.4}.bar text{pointer-events:none}
.point circle{fill:var(--point)}.point text{fill:var(--on-point);text-anchor:middle;font-size:10px;
font-weight:700}
.cross circle{fill:var(--bad)}
.cross path{stroke:var(--on-point);stroke-width:2;fill:none;
stroke-linecap:round}
.state rect{fill:var(--state)}.state.odd rect{fill:var(--odd)}
svg .nothing{fill:var(--bad);font-weight:700}
figcaption{padding:9px 16px;border-top:1px solid var(--line);color:var(--muted);font-size:12.5px;
display:flex;flex-wrap:wrap;gap:4px 22px}
figcaption i{display:inline-block;width:20px;height:11px;border-radius:3px;margin-right:7px;
border:1px solid var(--edge);background:var(--bar);vertical-align:-1px}
i.done{background:var(--done)!important;border-color:var(--done-edge)!important}
i.stuck{background:var(--bad-bar)!important;border-color:var(--bad)!important}
i.unknown{border-style:dashed!important}
i.dot{width:11px!important;border-radius:99px!important;background:var(--point)!important;
border:0!important}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}
th{text-align:left;font-weight:600;color:var(--muted);border-bottom:1.5px solid var(--line)}
th,td{padding:5px 14px 5px 0;vertical-align:top}td{border-bottom:1px solid var(--line);
overflow-wrap:anywhere}td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
tr.stuck td{color:var(--bad)}footer{margin-top:40px;color:var(--muted);font-size:12.5px}
@media print{:root{--page:#fff;--card:#fff}main{max-width:none;padding:0}.scroll{overflow:visible}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}figure,tr{break-inside:avoid}
.scroll svg{max-width:100%;height:auto}}
"""


def render_timeline(verdict: Verdict, model: Model, source: str = "") -> str:
    """Write the page.

    Args:
        verdict: what a checker found.
        model: the model that it was checked against, for words.
        source: name of the history's file, or "".

    Returns:
        A complete HTML document.
    """
    colour, sentence = _MEANING[verdict.answer]
    window = None
    if verdict.counterexample is not None:
        window = Window(verdict.counterexample, model)
        sentence = window.sentence
    name = plain(source) or "history"
    parts = [
        f'<p class="badge {colour}">{verdict.answer.value}</p>',
        f"<h1>{escape(name)}</h1>",
        f'<p class="sentence">{escape(sentence)}</p>',
        _facts(verdict, window),
    ]
    if verdict.undecided:
        keys = ", ".join(plain(str(key)) for key in verdict.undecided[:100])
        parts.append(f"<h2>Undecided objects</h2><p>{escape(shorten(keys, 2000))}</p>")
    if window is not None:
        parts += [_figure(window), _order(window), _stuck(window), _table(window)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: {verdict.answer.value}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}"
        "<footer>Written by quorate check.</footer></main></body></html>\n"
    )


def _facts(verdict: Verdict, window: Window | None) -> str:
    facts = [
        ("model", verdict.model),
        ("operations", f"{verdict.operations:,}"),
        ("objects", f"{verdict.partitions:,}"),
        ("configurations visited", f"{verdict.configurations:,}"),
        ("search", verdict.search),
    ]
    if window is not None and window.object_name():
        facts.insert(1, ("object", shorten(window.object_name(), 80)))
    return (
        '<p class="facts">'
        + "".join(f"<span>{name} <b>{escape(value)}</b></span>" for name, value in facts if value)
        + "</p>"
    )


def _figure(window: Window) -> str:
    picture = Picture(window)
    has_unknown = any(it.is_unknown for it in window.operations)
    unknown = '<span><i class="unknown"></i>outcome unknown</span>' if has_unknown else ""
    return (
        f'<figure><div class="picture">{picture.names()}'
        f'<div class="scroll">{picture.bars()}</div></div><figcaption>'
        '<span><i class="dot"></i>place in the longest order found</span>'
        '<span><i class="done"></i>in that order</span>'
        '<span><i class="stuck"></i>could come next, but its result does not fit</span>'
        f"<span><i></i>neither</span>{unknown}"
        "<span>Time runs to the right: calls and returns in their order, not to scale.</span>"
        "</figcaption></figure>"
    )


def _order(window: Window) -> str:
    longest = window.counterexample.longest
    before = escape(shorten(plain(window.counterexample.before), _CELL_CHARS_MAX))
    rows = [
        f'<tr><td></td><td></td><td class="muted">before</td><td class="mono">{before}</td></tr>'
    ]
    for place, (it, state) in enumerate(longest, 1):
        after = escape(shorten(plain(state), _CELL_CHARS_MAX))
        rows.append(
            f'<tr><td class="number">{place}</td><td>{_process(it)}</td>'
            f'<td class="mono">{_label(window, it)}</td><td class="mono">{after}</td></tr>'
        )
    return (
        f"<h2>The longest order found: {len(longest)} of {len(window.operations)}</h2>"
        '<div class="wide"><table><tr><th class="number">place</th><th>process</th>'
        f"<th>operation</th><th>state after it</th></tr>{''.join(rows)}</table></div>"
    )


def _stuck(window: Window) -> str:
    if not window.counterexample.stuck:
        return ""
    rows = [
        f'<tr class="stuck"><td>{_process(it)}</td><td class="mono">{_label(window, it)}</td>'
        f"<td>{escape(shorten(plain(why), 4 * _CELL_CHARS_MAX))}</td></tr>"
        for it, why in window.counterexample.stuck
    ]
    return (
        "<h2>One of these would have to come next, and none can</h2>"
        '<div class="wide"><table><tr><th>process</th><th>operation</th><th>why not</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _table(window: Window) -> str:
    start = min((it.invoked_ns for it in window.operations if it.invoked_ns), default=0)
    rows = []
    for it in window.operations:
        place = window.order.get(it.invoked)
        is_stuck = it.invoked in window.reasons
        rows.append(
            f"<tr{' class=stuck' if is_stuck else ''}>"
            f'<td class="number">{window.numbers[it.invoked]}</td><td>{_process(it)}</td>'
            f'<td class="mono">{_label(window, it)}</td>'
            f'<td class="number">{it.line or ""}</td>'
            f'<td class="number">{_milliseconds(it.invoked_ns, start)}</td>'
            f'<td class="number">{_milliseconds(it.returned_ns, start)}</td>'
            f'<td class="number">{place or ""}</td></tr>'
        )
    return (
        "<h2>All operations of the window</h2>"
        '<div class="wide"><table><tr><th class="number">#</th><th>process</th><th>operation</th>'
        '<th class="number">line</th><th class="number">called, ms</th>'
        '<th class="number">returned, ms</th><th class="number">place</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _milliseconds(time_ns: int, start: int) -> str:
    return f"{(time_ns - start) / 1e6:,.3f}" if time_ns else ""


def _process(operation: Operation) -> str:
    return escape(shorten(plain(str(operation.process)), 40))


def _label(window: Window, operation: Operation) -> str:
    return escape(shorten(window.label(operation), _CELL_CHARS_MAX))
