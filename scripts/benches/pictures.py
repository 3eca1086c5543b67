"""Bars as SVG: panels side by side, a row for each contender, whiskers from the lowest to the highest, the goal as a dashed line."""

import math
from xml.sax.saxutils import escape

LEFT, RIGHT, GAP, TOP_EDGE, ROW, BAR, FOOT = 16, 16, 40, 74, 30, 16, 40
WIDTH = 960
OURS, THEIRS, GOAL, INK, FAINT = "#2f6fde", "#a9b4c2", "#c8402f", "#1d2733", "#e3e8ee"
# Widths of letters of the font that is asked for, near enough: in parts of its size.
LETTER = 0.61


def write(path, title, panels):
    """Panels are [unit, name → [median, lowest, highest], goal or None]; names that begin with `hubless` are ours."""
    names = list(dict.fromkeys(name for _, bars, _ in panels for name in bars))
    label = max(len(name) for name in names) * LETTER * 13 + 14
    each = (WIDTH - LEFT - RIGHT - label - GAP * (len(panels) - 1)) / len(panels)
    height = TOP_EDGE + ROW * len(names) + FOOT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
           f'font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">',
           f"<title>{escape(title)}</title>",
           f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
           text(LEFT, 28, title, size=15, weight="bold")]
    out += [text(LEFT + label - 14, middle(row) + 4.5, name, anchor="end", weight="bold" if is_ours(name) else "normal")
            for row, name in enumerate(names)]
    for n, (unit, bars, goal) in enumerate(panels):
        out += panel(LEFT + label + n * (each + GAP), each, names, unit, bars, goal)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*out, "</svg>", ""]))


def panel(x, width, names, unit, bars, goal):
    most = max([high for _, _, high in bars.values()] + ([goal] if goal else []))
    # Room for the figure behind the longest bar.
    step, top = scale(most * 1.02)
    room = width - 48
    at = lambda value: x + room * value / top  # noqa: E731: a scale is a formula
    bottom = TOP_EDGE + ROW * len(names)
    out = [text(x, TOP_EDGE - 14, unit, weight="bold")]
    for n in range(round(top / step) + 1):
        out += [line(at(n * step), TOP_EDGE - 4, bottom, FAINT), text(at(n * step), bottom + 15, figure(n * step), anchor="middle", size=11)]
    for row, name in enumerate(names):
        if name not in bars:
            continue
        value, low, high = bars[name]
        y = middle(row)
        out.append(f'<rect x="{x:.1f}" y="{y - BAR / 2:.1f}" width="{at(value) - x:.1f}" height="{BAR}" fill="{OURS if is_ours(name) else THEIRS}"/>')
        if high > low:
            out.append(f'<path d="M{at(low):.1f} {y:.1f}H{at(high):.1f}M{at(low):.1f} {y - 4:.1f}v8M{at(high):.1f} {y - 4:.1f}v8" '
                       f'stroke="{INK}" stroke-width="1.2" fill="none"/>')
        out.append(text(at(high) + 6, y + 4.5, figure(value), size=12))
    if goal:
        out += [line(at(goal), TOP_EDGE - 6, bottom + 2, GOAL, dashed=True),
                text(at(goal), bottom + 31, f"goal ≤ {figure(goal)}", anchor="middle", size=11, fill=GOAL)]
    return out


def scale(most):
    """A step of 1, 2 or 5 times a power of ten, and the first multiple of it that is not below `most`; 3 to 6 steps."""
    power = 10 ** math.floor(math.log10(most))
    step = next(factor * power for factor in (0.2, 0.5, 1, 2) if most / (factor * power) <= 5)
    return step, math.ceil(most / step - 1e-9) * step


def figure(value):
    """As many digits as a reader wants."""
    return f"{value:.0f}" if value >= 100 or value == round(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def is_ours(name):
    return name.startswith("hubless")


def middle(row):
    return TOP_EDGE + ROW * row + ROW / 2


def text(x, y, what, anchor="start", size=13, weight="normal", fill=INK):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{fill}">{escape(what)}</text>'


def line(x, top, bottom, stroke, dashed=False):
    dashes = ' stroke-width="1.5" stroke-dasharray="5 3"' if dashed else ""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{stroke}"{dashes}/>'
