"""Names of the files in a run's folder."""

from __future__ import annotations

CONFIG_FILE = "config.json"
SUMMARY_FILE = "run.json"
METRICS_FILE = "metrics.json"
METRICS_TABLE = "metrics.csv"
MODEL_FILE = "model.safetensors"
PARTITION_FILE = "partition.json"
PARTITION_PAGE = "partition.html"
REFUSALS_TABLE = "refusals.csv"
REPORT_PAGE = "report.html"
CHAIN_FILE = "chain.txt"
"""Which chain a run with a ledger is on."""
CHECKPOINT_FILE = "checkpoint.safetensors"
"""Where a run without a ledger was."""
