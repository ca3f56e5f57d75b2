"""What a person or a collector reads of the work in a pod: one line of JSON for each thing that happened."""

import json
import sys


def log(event: str, **facts: object) -> None:
    """Write one line of JSON to standard error."""
    sys.stderr.write(json.dumps({"event": event, **facts}, ensure_ascii=False) + "\n")
    sys.stderr.flush()
