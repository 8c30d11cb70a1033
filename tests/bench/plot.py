"""The ratios of a run as one SVG: how many times as fast as its peer each row is, on a scale of powers of ten; a line is from the lowest to the highest round."""

import math
from xml.sax.saxutils import escape

LEFT, WIDTH, LINE, TOP = 430, 520, 16, 40
# Sections of the figures; turned: the ratio is prelux's time over the peer's.
SECTIONS = (("calls", "Calls", True), ("names", "Known names", True), ("streams", "Cold streams", False), ("reading", "Cold reading", False),
            ("prefetch", "Prefetch", False), ("writing", "Writing", False))


def rows_of(result):
    """[(section's title, [(name, ratio, lowest, highest)])]"""
    sections = []
    for key, title, turned in SECTIONS:
        rows = [(one["name"], one["ratio"], one["ratio_low"], one["ratio_high"]) for one in result.get(key, ()) if "ratio" in one]
        if turned:
            rows = [(name, 1 / ratio, 1 / high, 1 / low) for name, ratio, low, high in rows]
        if rows:
            sections.append((title, rows))
    return sections


def svg(result):
    sections = rows_of(result)
    values = [value for _, rows in sections for row in rows for value in row[1:]] or [1]
    low, high = math.floor(min(-1, math.log10(min(values)))), math.ceil(max(1, math.log10(max(values))))

    def x(value):
        return LEFT + WIDTH * (math.log10(value) - low) / (high - low)

    height = TOP + LINE * sum(len(rows) + 2 for _, rows in sections) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>', f'<text x="{LEFT}" y="14" font-size="13">times as fast as the peer</text>']
    for power in range(low, high + 1):
        at = x(10 ** power)
        out += [f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{height}" stroke="{"#888" if power == 0 else "#ddd"}"/>',
                f'<text x="{at:.1f}" y="{TOP - 12}" text-anchor="middle">{10 ** power:g}</text>']
    y = TOP
    for title, rows in sections:
        y += LINE
        out.append(f'<text x="4" y="{y + 4}" font-weight="bold">{escape(title)}</text>')
        for name, ratio, least, most in rows:
            y += LINE
            color = "#2a7" if ratio >= 1 else "#c63"
            out += [f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(name if len(name) < 72 else name[:70] + "...")}</text>',
                    f'<line x1="{x(least):.1f}" y1="{y}" x2="{x(most):.1f}" y2="{y}" stroke="{color}" stroke-width="2"/>',
                    f'<circle cx="{x(ratio):.1f}" cy="{y}" r="4" fill="{color}"/>', f'<text x="{x(max(ratio, most)) + 8:.1f}" y="{y + 4}">{ratio:.2f}</text>']
        y += LINE
    return "\n".join([*out, "</svg>"]) + "\n"
