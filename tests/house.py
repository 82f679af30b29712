#!/usr/bin/env python3
"""Prints what can be counted of the code's form: sizes, names, comments, folded expressions.

usage: tests/house.py [FOLDER...]      without a folder: src and loadtest/src

Counted is the product: files of tests and inline test modules are left out. A figure is no verdict: it says where to look.
"""
import re
import statistics
import sys
from collections import Counter
from pathlib import Path

# Option and Result combinators that fold a branch into an expression; `map` and `filter` are the iterators' too, and left out.
COMBINATORS = re.compile(
    r"\.(?:map_or|map_or_else|and_then|or_else|ok_or|ok_or_else|unwrap_or|unwrap_or_else|unwrap_or_default"
    r"|is_some_and|is_none_or|is_ok_and|then|then_some)\("
)
LET_CLOSURE = re.compile(r"\blet (?:mut )?\w+ = (?:move )?\|")
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe |extern \"C\" )*fn (\w+)")
TYPE = re.compile(r"^(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|union|type) (\w+)")
WIDE = 100


def product_lines(path):
    """The lines of a file before its inline tests."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        follower = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("#[cfg(test)]") and follower.startswith("mod ") and follower.endswith("{"):
            return lines[:number]
    return lines


def is_test_file(path):
    return path.stem in ("tests", "testing", "rules") or {"tests", "rules"} & set(path.parts)


def functions(lines):
    """Name and number of lines of each function: from its signature to the brace in its own column."""
    for number, line in enumerate(lines):
        found = FUNCTION.match(line)
        if not found:
            continue
        indent, name = found.groups()
        for end in range(number, len(lines)):
            is_end = lines[end] == indent + "}" or end == number and line.rstrip().endswith(("}", ";"))
            if is_end or lines[end].startswith(indent) and lines[end].rstrip().endswith(";") and "{" not in "".join(lines[number : end + 1]):
                yield name, end - number + 1
                break


def is_one_word(type_name):
    return len(re.findall(r"[A-Z][a-z0-9]*", type_name)) <= 1


def share(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "-"


def main():
    folders = [Path(name) for name in sys.argv[1:]] or [Path("src"), Path("loadtest/src")]
    paths = sorted(path for folder in folders for path in folder.rglob("*.rs") if not is_test_file(path))
    files = {path: product_lines(path) for path in paths}
    lines = [line for text in files.values() for line in text]
    sizes = sorted(len(text) for text in files.values())
    bodies = [found for text in files.values() for found in functions(text)]
    lengths = sorted(length for _, length in bodies)
    types = [found.group(1) for line in lines if (found := TYPE.match(line))]
    counts = Counter(types)
    docs = sum(line.lstrip().startswith(("///", "//!")) for line in lines)
    comments = sum(line.lstrip().startswith("//") for line in lines) - docs
    code = [line.split("//")[0] for line in lines]
    per_thousand = lambda pattern: f"{1000 * sum(len(pattern.findall(line)) for line in code) / len(lines):.1f}"
    shared = sum(count for count in counts.values() if count > 1)
    rows = [
        ("lines of the product", len(lines)),
        ("files", len(files)),
        ("lines of a file: median, 90 %, most", f"{statistics.median(sizes):.0f}, {sizes[len(sizes) * 9 // 10]}, {sizes[-1]}"),
        ("lines of a function: median, 99 %, most", f"{statistics.median(lengths):.0f}, {lengths[len(lengths) * 99 // 100]}, {lengths[-1]}"),
        ("lines that are documentation", share(docs, len(lines))),
        ("lines that are other comments", share(comments, len(lines))),
        (f"lines over {WIDE} columns", share(sum(len(line) > WIDE for line in lines), len(lines))),
        ("functions of one word", share(sum("_" not in name for name, _ in bodies), len(bodies))),
        ("types of one word", share(sum(map(is_one_word, types)), len(types))),
        ("types that share their name with another", share(shared, len(types))),
        ("closures bound by `let`, in 1,000 lines", per_thousand(LET_CLOSURE)),
        ("combinators, in 1,000 lines", per_thousand(COMBINATORS)),
    ]
    for name, figure in rows:
        print(f"{name:<45} {figure}")
    print("\nnames of types that occur most: " + ", ".join(f"{name} {count}" for name, count in counts.most_common(12)))


if __name__ == "__main__":
    main()
