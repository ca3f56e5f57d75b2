"""The three ways in which KServe serves two versions side by side."""
