"""What each run asks of a Ray cluster; how runs fare there is in test_ray.py."""

import pytest

from lossbench.benchmark.engines import ray_flights


@pytest.mark.extra("ray")
@pytest.mark.parametrize(("need", "calls"), [({"CPU": 1}, 0), ({"CPU": 1, "GPU": 0.25}, 1)])
def test_a_process_does_one_run_on_a_gpu_as_it_could_not_change_to_another(need, calls):
    import ray

    assert ray_flights._train_on(ray, need)._max_calls == calls
