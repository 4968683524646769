"""Records -> rows, tables, comparison, submission, report."""
