"""The gRPC side: the Open Inference Protocol's service with Triton's extensions."""
