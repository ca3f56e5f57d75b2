"""What both servers need: KServe's ModelServer with the Open Inference Protocol done fully."""
