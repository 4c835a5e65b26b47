"""Labels stay near what they name, and never cover one another."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy.optimize import minimize

from lossbench.report.figures.labels import Box, place_beside, spread

ROOM = Box(0, 0, 300, 200)


def test_boxes_share_an_area():
    assert Box(0, 0, 2, 2).shared(Box(1, 1, 4, 4)) == 1
    assert Box(0, 0, 2, 2).shared(Box(2, 0, 4, 4)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_positions_are_the_nearest_that_are_apart(seed):
    """Against a general solver of the same least-squares problem."""
    wanted = np.random.default_rng(seed).uniform(0.2, 0.8, 6)
    found = np.array(spread(wanted.tolist(), 0.08, 0.0, 1.0))
    order = np.argsort(wanted)
    apart = [{"type": "ineq", "fun": lambda x, i=i, j=j: x[j] - x[i] - 0.08} for i, j in pairwise(order)]
    best = minimize(lambda x: ((x - wanted) ** 2).sum(), wanted, constraints=apart, bounds=[(0, 1)] * 6)
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_positions_stay_within_the_ends_and_in_order():
    assert spread([0.99, 1.0, 0.2], 0.1, 0.0, 1.0) == [0.9, 1.0, 0.2]
    assert spread([0.5] * 11, 0.3, 0.0, 1.0) == pytest.approx([i / 10 for i in range(11)]), "more than fit"
    assert spread([], 0.1, 0, 1) == []
    assert spread([0.3], 0.1, 0, 1) == [0.3]


def test_names_of_a_crowd_cover_neither_one_another_nor_a_point():
    rng = np.random.default_rng(0)
    points = [tuple(map(float, point)) for point in rng.normal((150, 100), 25, (20, 2))]
    sizes = [(float(width), 9.0) for width in rng.uniform(15, 70, 20)]
    places = place_beside(points, sizes, ROOM, rings=[9] * 20)
    boxes = [place[0] for place in places if place]
    assert len(boxes) > 15
    assert not any(a.shared(b) for a, b in combinations(boxes, 2))
    assert not any(box.left < x < box.right and box.low < y < box.high for box in boxes for x, y in points)
    assert all(box.left >= 0 and box.right <= 300 and box.low >= 0 and box.high <= 200 for box in boxes)


def test_a_label_stands_close_to_a_lonely_point_and_beside_what_is_in_its_way():
    ((box, far),) = place_beside([(150, 100)], [(40, 9)], ROOM, rings=[9])
    assert not far
    assert min(abs(box.left - 150), abs(box.right - 150)) < 6
    ((moved, _),) = place_beside([(150, 100)], [(40, 9)], ROOM, rings=[9], obstacles=[box])
    assert moved.shared(box) < 0.2 * 40 * 9
    assert place_beside([(150, 100)], [(400, 9)], ROOM, rings=[9]) == [None], "wider than the room"


def test_a_label_of_few_rings_is_left_out_where_it_is_crowded():
    crowd = [(150.0 + 5 * i, 100.0 + 5 * j) for i in range(5) for j in range(5)]
    places = place_beside(crowd, [(60, 9)] * 25, ROOM, rings=[1] * 25)
    assert None in places
    assert any(places)
    assert not any(place[1] for place in places if place), "those of the first ring need no leader"
