"""The report: runs side by side on one self-contained page, with what tells them apart and what their metrics did."""
