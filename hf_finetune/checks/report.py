"""Show the results of ``check`` on the terminal, as a self-contained page, and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from hf_finetune.console import say, show_table
from hf_finetune.data.rows.finding import SEVERITIES, Finding, Section
from hf_finetune.files import write_json, writing
from hf_finetune.report.render import render, write_page

HTML, JSON = "check.html", "check.json"
_NAMED = 3  # rows per finding on the terminal
_BARS = 12  # bars per histogram on the terminal


def all_findings(sections: list[Section]) -> list[Finding]:
    """Return the findings of all sections, errors first."""
    found = [finding for section in sections for finding in section.findings]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def summarise(findings: list[Finding]) -> str:
    """Return ``1 error, 2 warnings and 1 remark.``"""
    found = Counter(finding.severity for finding in findings)
    counts = zip((found[severity] for severity in SEVERITIES), ("error", "warning", "remark"), strict=True)
    errors, warnings, remarks = (f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    return f"{errors}, {warnings} and {remarks}."


def show_report(sections: list[Section]) -> None:
    """Print tables and findings."""
    for section in sections:
        for sentence in section.sentences:
            say(sentence)
        for table in section.tables:
            rows = table.rows[:_BARS] if table.bars else table.rows
            more = f" ({len(rows)} of {len(table.rows)} shown)" if len(rows) < len(table.rows) else ""
            show_table(f"{table.title or section.title}{more}", table.columns, rows)
    findings = all_findings(sections)
    say(f"Findings: {summarise(findings)}")
    for finding in findings:
        where = f"{finding.where}: " if finding.where else ""
        # In brackets, because "error:" is the prefix of a UserError.
        say(f"[{finding.severity}] {finding.code}: {where}{finding.message}.")
        if finding.rows:
            say(f"    {'; '.join(finding.rows[:_NAMED])}{'; …' if len(finding.rows) > _NAMED else ''}")
        if finding.fix:
            say(f"    {finding.fix}")


def write_report(folder: Path, title: str, sections: list[Section]) -> None:
    """Write ``check.html`` and ``check.json`` into a folder, each atomically.

    Raises:
        UserError: the folder cannot be written.
    """
    findings = all_findings(sections)
    template = Path(__file__).with_name("report.html.j2")
    page = render(template, title=title, summary=summarise(findings), findings=findings, sections=sections)
    content = {
        "title": title,
        "findings": [asdict(finding) for finding in findings],
        "sections": {section.key: section.facts | {"sentences": section.sentences} for section in sections},
    }
    with writing("report", f"--output_dir {folder}", "name another folder."):
        write_page(folder / HTML, page)
        write_json(folder / JSON, content)
