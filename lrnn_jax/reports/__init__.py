"""Statistics, tables and HTML pages of many fits."""

from lrnn_jax.reports.contents import Gallery, fits_page
from lrnn_jax.reports.page import Page, html_table, text_of
from lrnn_jax.reports.statistics import Task, summary_rows, tasks
from lrnn_jax.reports.tables import csv_text, markdown_text, read_parquet, write_rows

__all__ = [
    "Gallery",
    "Page",
    "Task",
    "csv_text",
    "fits_page",
    "html_table",
    "markdown_text",
    "read_parquet",
    "summary_rows",
    "tasks",
    "text_of",
    "write_rows",
]
