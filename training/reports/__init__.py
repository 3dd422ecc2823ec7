"""What a run says of itself: report.json, report.md and plots."""
