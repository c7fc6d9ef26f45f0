"""Ratios to peers as a plot: python3 plot.py RESULTS.jsonl PLOT.svg

A line of RESULTS is {"what", "peer", "ratio", "asked"}: how many times as fast we are, and how many were aimed at (or nothing).
"""
import json
import math
import sys

WIDTH, LEFT, RIGHT, TOP, ROW = 860, 430, 60, 34, 22
LEAST, MOST = 0.8, 32
OURS, SHORT, GRID = "#1f6f8b", "#c77b30", "#ddd"


def place(ratio):
    """On a logarithmic axis."""
    return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / LEAST) / math.log(MOST / LEAST)


def draw(results):
    height = TOP + ROW * len(results) + 40
    bottom = height - 36
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
           'font-size="12"><rect width="100%" height="100%" fill="white"/>')
    yield f'<text x="{LEFT}" y="16">times as fast as the peer in the same run; a mark where the aim is</text>'
    for tick in (1, 2, 4, 8, 16, 32):
        yield (f'<path d="M{place(tick):.1f} {TOP - 8}V{bottom}" stroke="{"#888" if tick == 1 else GRID}"/>'
               f'<text x="{place(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick}</text>')
    for i, r in enumerate(results):
        y = TOP + ROW * i
        begin, end = sorted((place(1), place(r["ratio"])))
        colour = SHORT if r.get("asked") and r["ratio"] < r["asked"] else OURS
        yield (f'<text x="{LEFT - 12}" y="{y + 12}" text-anchor="end">{r["what"]}, to {r["peer"]}</text>'
               f'<rect x="{begin:.1f}" y="{y + 2}" width="{end - begin:.1f}" height="13" fill="{colour}"/>'
               f'<text x="{max(end, place(r.get("asked") or LEAST)) + 6:.1f}" y="{y + 13}">{r["ratio"]:g}</text>')
        if r.get("asked"):
            yield f'<path d="M{place(r["asked"]):.1f} {y - 1}v19" stroke="black" stroke-width="2"/>'
    yield "</svg>"


def main(results, svg):
    with open(results, encoding="utf-8") as f:
        lines = [json.loads(line) for line in f]
    with open(svg, "w", encoding="utf-8") as f:
        f.write("\n".join(draw(lines)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
