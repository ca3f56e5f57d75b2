"""Pictures in, detections out: the KServe transformer."""
