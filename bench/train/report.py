"""Turn student.py's results into a table (Markdown, on standard output) and a plot (SVG).

    python3 report.py RESULTS.jsonl PLOT.svg

The table has a row per run: top-1 at the end, mean and spread over the seeds, and the samples after which the run was
as good as the plain one at its end. The plot has accuracy against samples seen for the runs in DRAWN.
"""

import collections
import json
import sys

DRAWN = {"plain": "#777777", "captions": "#c27c0e", "embeddings": "#1f77b4", "full": "#b3202c"}
TITLE = "zero-shot top-1 on the held-out design, mean of the seeds"
WIDTH, HEIGHT, LEFT, BOTTOM, LINE = 640, 400, 56, 44, 14


def read(path):
    """run -> list of curves."""
    curves = collections.defaultdict(list)
    with open(path, encoding="utf-8") as f:
        for line in map(json.loads, f):
            curves[line["run"]].append(line["curve"])
    return curves


def mean_curve(curves):
    return [(points[0][0], sum(p[1] for p in points) / len(points)) for points in zip(*curves)]


def reached(curve, level):
    """Samples seen when the curve first reaches the level, between its points by a straight line; None: never."""
    before = (0, 0.0)
    for point in curve:
        if point[1] >= level:
            if point[1] == before[1]:
                return point[0]
            return before[0] + (point[0] - before[0]) * (level - before[1]) / (point[1] - before[1])
        before = point
    return None


def table(curves):
    plain = mean_curve(curves["plain"])
    yield "| run | seeds | top-1, % | spread | samples to plain's accuracy | times fewer |"
    yield "|---|---|---|---|---|---|"
    for run, own in sorted(curves.items(), key=lambda item: item[0] not in DRAWN):
        last = [100 * c[-1][1] for c in own]
        at = reached(mean_curve(own), plain[-1][1])
        yield (f"| {run} | {len(own)} | {sum(last) / len(last):.1f} | {min(last):.1f} to {max(last):.1f} | "
               + (f"{at:,.0f} | {plain[-1][0] / at:.1f} |" if at else "not reached | |"))


def plot(curves, drawn=DRAWN, title=TITLE, xlabel="samples seen", begin=((0, 0),), right=120):
    """`begin`: points before the first of every mean; `right`: room for the runs' names, in pixels."""
    most = max(p[0] for c in curves.values() for p in c[0])
    top = max(p[1] for run in drawn if run in curves for c in curves[run] for p in c) * 1.05
    x = lambda v: LEFT + (WIDTH - LEFT - right) * v / most
    y = lambda v: HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 20) * v / top
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
           'font-size="12"><rect width="100%" height="100%" fill="white"/>')
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if top / s <= 8)
    for i in range(int(top / step) + 1):
        yield (f'<path d="M{LEFT} {y(i * step):.1f}H{x(most):.1f}" stroke="#ddd"/><text x="{LEFT - 6}" '
               f'y="{y(i * step) + 4:.1f}" text-anchor="end">{100 * i * step:.0f} %</text>')
    step = next(s * 10 ** e for e in range(3, 12) for s in (1, 2, 2.5, 5) if most / (s * 10 ** e) <= 8)
    for i in range(int(most / step) + 1):
        yield (f'<text x="{x(i * step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
               f'{i * step / 1000:.0f} k</text>')
    yield f'<text x="{(LEFT + x(most)) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{xlabel}</text>'
    yield f'<text x="{LEFT}" y="14">{title}</text>'
    ends = []
    for run in filter(curves.get, drawn):
        for own in curves[run]:
            yield line([(x(a), y(b)) for a, b in own], drawn[run], 0.25)
        points = [(x(a), y(b)) for a, b in [*begin, *mean_curve(curves[run])]]
        yield line(points, drawn[run], 1)
        ends.append((points[-1][1] + 4, points[-1][0] + 6, run))
    low = 0
    for at, left, run in sorted(ends):  # names of lines that end close together stand below each other
        low = max(at, low + LINE)
        yield f'<text x="{left:.1f}" y="{low:.1f}" fill="{drawn[run]}">{run}</text>'
    yield "</svg>"


def line(points, colour, opacity):
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" opacity="{opacity}"/>'


def main(results, svg):
    curves = read(results)
    print("\n".join(table(curves)))
    with open(svg, "w", encoding="utf-8") as f:
        f.write("\n".join(plot(curves)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
