"""Sends a picture through a model as a client would, and exits with 0 when detections come back: `URL MODEL`."""

import json
import sys
import time
import urllib.error
import urllib.request

import cv2
import numpy as np

PATIENCE_S = 240


def main(url: str, model: str) -> None:
    """Ask until the model answers, for it may be starting, or at zero."""
    canvas = np.full((480, 640, 3), 255, np.uint8)
    cv2.circle(canvas, (320, 240), 120, (0, 0, 220), -1)
    picture = cv2.imencode(".jpg", canvas)[1].tobytes()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = ask(f"{url}/inference/detect?model_name={model}", picture)
            break
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.read()[:200].decode(errors='replace')}"
        except OSError as error:
            reason = str(error)
        if time.monotonic() > deadline:
            sys.exit(f"error: no answer from {url} within {PATIENCE_S} s: {reason}")
        time.sleep(2)
    detections = answer["predictions"][0]["detections"]
    sys.stdout.write(f"{answer['model_name']}: {len(detections)} detections, {answer['parameters']}\n")
    for found in detections:
        sys.stdout.write(f"{found['label']} {found['score']:.2f} {found['box']}\n")


def ask(url: str, picture: bytes) -> dict:
    """Return the answer to a picture."""
    request = urllib.request.Request(url, data=picture, headers={"Content-Type": "image/jpeg"})  # noqa: S310 (the chart's)
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 (the same)
        return json.load(response)


if __name__ == "__main__":
    main(*sys.argv[1:])
