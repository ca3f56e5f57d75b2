"""Tensors in, candidates out: the KServe predictor that runs prepared YOLO graphs in ONNX Runtime."""
