"""Fetch, verify, prepare and place YOLO weights."""
