"""What a training run leaves for people to read: a page of figures and a model card."""

from reidray.reporting.card import model_card
from reidray.reporting.page import write_run_report
from reidray.reporting.summary import DataSummary

__all__ = ["DataSummary", "model_card", "write_run_report"]
