"""The ways in which KServe serves two versions side by side, one for each of its modes."""
