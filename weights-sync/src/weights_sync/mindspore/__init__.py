"""MindSpore's checkpoints of MindYOLO networks, turned into ONNX."""
