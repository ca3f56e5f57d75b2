"""The REST side: Open Inference Protocol V2 with its extensions, KServe V1, and metrics."""
