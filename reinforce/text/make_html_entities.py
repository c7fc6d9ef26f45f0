#!/usr/bin/env python3
"""Writes html_entities_table.c, the named character references of HTML 5, from Python's html.entities.

Needs Python's standard library alone:  python3 reinforce/text/make_html_entities.py
"""
import html.entities
import pathlib


def literal(data: bytes) -> str:
    """A C string literal; an escape never swallows a hex digit that follows, since octal stops at three."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in data) + '"'


def main() -> None:
    lines = ["/* Written by make_html_entities.py. The names are those of the HTML standard, section 13.5. */",
             '#include "reinforce/text/html_entities.h"', "", "/* clang-format off */",
             "const struct html_entity html_entities[] = {"]
    line = "   "
    names = sorted((name.encode(), text.encode()) for name, text in html.entities.html5.items())
    for name, text in names:
        entry = f" {{{literal(name)}, {literal(text)}}},"
        if len(line) + len(entry) > 120:
            lines.append(line)
            line = "   "
        line += entry
    lines += [line, "};", "/* clang-format on */", f"const size_t n_html_entities = {len(names)};", ""]
    pathlib.Path(__file__).with_name("html_entities_table.c").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
