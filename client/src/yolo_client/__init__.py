"""What a user holds: the Python client and the yolo-kserve command."""
