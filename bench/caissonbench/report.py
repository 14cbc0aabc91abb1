"""The report: an aligned table for people, Markdown for docs/performance.md. Both from the JSON that bench/run writes."""


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def span(low, high):
    return "-" if low is None else f"{number(low)} to {number(high)}"


def rows(row):
    """One line per side of a quantity."""
    for side, data in row["sides"].items():
        reference = side == row["reference"]
        ratio = "" if reference or data["ratio"] is None else f"{data['ratio']:.2f} x"
        spread = "" if reference or data["ratio"] is None else span(*data["ratio_quartiles"])
        yield [side, number(data["median"]), span(*data["quartiles"]), ratio, spread]


HEADER = ["side", "median", "quartiles", "ratio", "ratio's quartiles"]


def aligned(table):
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        yield "  " + "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths)))


def text(result):
    lines = []
    for row in result["rows"]:
        better = "smaller is better" if row["smaller_is_better"] else "larger is better"
        lines += ["", f"{row['group']}: {row['name']} ({row['unit']}, {better}; ratio to {row['reference']})"]
        lines += aligned([HEADER, *rows(row)])
    for table in result["tables"]:
        lines += ["", table["title"], *aligned([table["header"], *table["lines"]])]
    if result["goals"]:
        lines += ["", "goals of the design", *aligned([["what", "goal", "reached", ""], *result["goals"]])]
    for side, reason in result["skipped"].items():
        lines += ["", f"skipped: {side}: {reason}"]
    return "\n".join(lines)


def markdown_table(header, lines):
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def markdown(result):
    facts = result["machine"]
    lines = [f"Measured {result['date']} on {facts['cpus']} CPUs ({facts['processor']}), {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
             f"by `{result['command']}`, {result['rounds']} rounds, version {result['caisson_version']}.", ""]
    for row in result["rows"]:
        better = "smaller is better" if row["smaller_is_better"] else "larger is better"
        lines += [f"**{row['group']}: {row['name']}** ({row['unit']}, {better}; ratio to {row['reference']})", ""]
        lines += markdown_table(HEADER, rows(row))
        lines.append("")
    for table in result["tables"]:
        lines += [f"**{table['title']}**", "", *markdown_table(table["header"], table["lines"]), ""]
    if result["goals"]:
        lines += ["**Goals of the design**", "", *markdown_table(["what", "goal", "reached", ""], result["goals"]), ""]
    for side, reason in result["skipped"].items():
        lines.append(f"Skipped: {side}: {reason}.")
    return "\n".join(lines).rstrip() + "\n"
