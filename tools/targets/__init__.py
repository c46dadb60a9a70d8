"""Where a run can go. Each target takes the same RunSpec."""
