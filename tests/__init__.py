"""Tests mirror the packages: what breaks in `workflow/money.py` shows in `tests/workflow/test_money.py`."""
