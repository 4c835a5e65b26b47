"""The comparison write-up: tables, verdicts, figures, Markdown."""
