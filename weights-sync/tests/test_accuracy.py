"""The comparison of two models' detections, against COCO's own evaluation and by hand."""

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from weights_sync.quantise.accuracy import Detections, compare, mean_average_precision, overlaps, suppress


def detections(rows):
    """Rows of x1 y1 x2 y2, score, class."""
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64), np.arange(len(table)))


def scene(random, count):
    """Return boxes of two pictures and shaken, scored, partly wrong ones of the same."""
    low = random.uniform(0, 300, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(40, 120, (count, 2))], 1)
    classes = random.integers(0, 4, (count, 1))
    scores = random.uniform(0.3, 1, (count, 1))
    truth = np.concatenate([boxes, scores, classes], 1)
    shaken = truth.copy()
    shaken[:, :4] += random.normal(0, 6, (count, 4))
    shaken[:, 4] = random.uniform(0.01, 1, count)
    shaken[::7, 5] = random.integers(0, 4, len(shaken[::7]))
    extra = shaken[: count // 3].copy()
    extra[:, :4] += 5
    extra[:, 4] = random.uniform(0, 0.9, len(extra))
    return truth, np.concatenate([shaken[3:], extra])


def coco(truths, found):
    """Return mAP50-95 by faster-coco-eval, for tables of rows as above, a picture each."""
    boxes = [(image, *row) for image, table in enumerate(truths, 1) for row in table.tolist()]
    classes = sorted({int(row[6]) for row in boxes})
    wide = [[x1, y1, x2 - x1, y2 - y1] for _, x1, y1, x2, y2, _, _ in boxes]
    data = COCO(
        {
            "images": [{"id": image} for image in range(1, len(truths) + 1)],
            "categories": [{"id": number + 1} for number in classes],
            "annotations": [
                {
                    "id": at,
                    "image_id": row[0],
                    "category_id": int(row[6]) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for at, (row, box) in enumerate(zip(boxes, wide, strict=True), 1)
            ],
        }
    )
    results = data.loadRes(
        [
            {
                "image_id": image,
                "category_id": int(number) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": score,
            }
            for image, table in enumerate(found, 1)
            for x1, y1, x2, y2, score, number in table.tolist()
        ]
    )
    evaluation = COCOeval_faster(data, results, "bbox", print_function=lambda *_: None)
    evaluation.run()
    return evaluation.stats[0]


@pytest.mark.parametrize("seed", range(8))
def test_the_map_is_that_of_cocos_evaluation(seed):
    random = np.random.default_rng(seed)
    truths, found = zip(*(scene(random, count) for count in (30, 0, 12, 60)), strict=True)
    expected = coco(truths, found)
    assert 0.05 < expected < 0.95
    ours = mean_average_precision([detections(rows) for rows in truths], [detections(rows) for rows in found])
    assert ours == pytest.approx(expected, abs=1e-6)


def test_a_model_agrees_with_itself():
    truth = detections([[0, 0, 10, 10, 0.9, 1], [5, 5, 30, 20, 0.3, 1], [0, 0, 9, 9, 0.1, 0]])
    agreement = compare([truth], [truth])
    assert (agreement.wanted, agreement.found, agreement.extra) == (2, 2, 0)
    assert (agreement.overlap, agreement.score_change, agreement.mean_ap) == pytest.approx((1, 0, 1))


def test_what_is_missed_added_and_moved_is_counted():
    truth = detections([[0, 0, 10, 10, 0.9, 1], [50, 50, 60, 60, 0.8, 1]])
    other = detections([[0, 0, 10, 8, 0.7, 1], [50, 50, 60, 60, 0.8, 2], [20, 20, 30, 30, 0.2, 1]])
    agreement = compare([truth], [other])
    assert (agreement.wanted, agreement.found, agreement.extra) == (2, 1, 1)
    assert agreement.overlap == pytest.approx(0.8)
    assert agreement.score_change == pytest.approx(0.2)
    # Recalls up to a half of 101, at the overlaps 0.50 to 0.80.
    assert agreement.mean_ap == pytest.approx(51 / 101 * 0.7)


def test_pictures_of_nothing_agree_unless_something_is_seen():
    nothing, something = detections([]), detections([[0, 0, 10, 10, 0.9, 1]])
    assert compare([nothing], [nothing]).mean_ap == 1
    assert compare([nothing], [something]).mean_ap == 0
    assert compare([something], [nothing]).mean_ap == 0


def test_suppression_keeps_the_best_of_a_class():
    found = detections([[0, 0, 10, 10, 0.5, 1], [0, 0, 10, 9, 0.9, 1], [0, 0, 10, 10, 0.4, 2], [0, 0, 10, 5, 0.3, 1]])
    assert sorted(suppress(found).rows) == [1, 2, 3]


def test_boxes_without_area_overlap_nothing():
    np.testing.assert_array_equal(overlaps(np.zeros((1, 4)), np.array([[0, 0, 0, 0], [0, 0, 1, 1.0]])), [[0, 0]])
