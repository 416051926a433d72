"""From PyTorch weights to the ONNX graphs that embedfleet runs. See docs/export.md."""
