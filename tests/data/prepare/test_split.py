import pytest

from lossbench.data.prepare.options import SplitOptions
from lossbench.data.prepare.split import choose_people, split_images
from lossbench.errors import InputError

IMAGES = {f"p{i:02d}": 30 - i for i in range(20)}


def people_of(chosen):
    return {p: [f"{p}/{i}.jpg" for i in range(IMAGES[p])] for part in chosen.values() for p in part}


def test_the_closed_set_has_the_most_images():
    chosen = choose_people(IMAGES, SplitOptions(identities=5, query_identities=4, distractor_identities=3))
    assert chosen["closed"] == ["p00", "p01", "p02", "p03", "p04"]
    assert [len(chosen[part]) for part in ("query", "distractors")] == [4, 3]
    assert not set(chosen["query"]) & set(chosen["distractors"])


def test_ties_go_by_name_and_the_seed_draws_the_open_set():
    same = dict.fromkeys("dcbaefgh", 9)
    assert choose_people(same, SplitOptions(4, query_identities=2, distractor_identities=2))["closed"] == list("abcd")
    draws = {tuple(choose_people(IMAGES, SplitOptions(5, 5, 4, 3, seed=s))["query"]) for s in range(8)}
    assert len(draws) > 1


def test_a_draw_does_not_depend_on_who_else_is_there():
    chosen = {"closed": ["p00"], "query": [], "distractors": []}
    alone, _, _ = split_images(people_of(chosen), chosen, SplitOptions())
    both = {"closed": ["p00", "p01"], "query": [], "distractors": []}
    together, _, _ = split_images(people_of(both), both, SplitOptions())
    assert alone.items() <= together.items()


def test_shares_are_kept_and_everybody_is_everywhere():
    chosen = choose_people(IMAGES, SplitOptions(identities=10))
    parts, left_out, unfit = split_images(people_of(chosen), chosen, SplitOptions(val=0.2, test=0.1))
    assert left_out == unfit == []
    for person in chosen["closed"]:
        own = [part for name, part in parts.items() if name.startswith(person)]
        assert own.count("val") == round(0.2 * IMAGES[person])
        assert own.count("test") == round(0.1 * IMAGES[person])
        assert own.count("train") == IMAGES[person] - own.count("val") - own.count("test")
    assert {parts[f"{p}/0.jpg"] for p in chosen["query"]} == {"query"}


def test_groups_stay_together_even_across_two_people():
    chosen = {"closed": ["p00", "p01"], "query": ["p02"], "distractors": ["p03"]}
    groups = {f"p00/{i}.jpg": i // 3 for i in range(30)} | {
        "p01/0.jpg": 0,
        "p02/0.jpg": 0,
        "p03/5.jpg": 99,
        "p02/1.jpg": 99,
    }
    parts, left_out, unfit = split_images(people_of(chosen), chosen, SplitOptions(), groups)
    assert unfit == []
    for i in range(0, 30, 3):
        assert len({parts[f"p00/{j}.jpg"] for j in range(i, i + 3)}) == 1
    assert parts["p01/0.jpg"] == parts["p00/0.jpg"]
    assert left_out == ["p02/0.jpg", "p03/5.jpg"]
    assert not set(left_out) & set(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SplitOptions(identities=15, query_identities=4, distractor_identities=4), r"15 \+ 4 \+ 4 people.*20 of 20"),
        (SplitOptions(identities=1), "--identities 1 is too few"),
        (SplitOptions(query_identities=1), "--query-identities 1 is too few"),
        (SplitOptions(min_images=3), "--min-images 3 is too few"),
        (SplitOptions(min_images=500), "0 of 20 people have 500 images"),
        (SplitOptions(val=0.6, test=0.5), "--val 0.6 and --test 0.5"),
    ],
)
def test_what_cannot_be_split_is_one_line(options, message):
    with pytest.raises(InputError, match=message):
        choose_people(IMAGES, options)


def copies(person, count, *, group=0):
    return {f"{person}/{i}.jpg": group for i in range(count)}


def test_a_group_counts_as_one_image():
    chosen = {"closed": ["p00", "p01", "p02"], "query": [], "distractors": []}
    groups = copies("p00", 30) | copies("p01", IMAGES["p01"] - 3, group=1) | copies("p02", IMAGES["p02"] - 4, group=2)
    assert split_images(people_of(chosen), chosen, SplitOptions(min_images=5), groups)[2] == ["p00", "p01"]
    assert split_images(people_of(chosen), chosen, SplitOptions(min_images=4), groups)[2] == ["p00"]


def test_a_query_person_with_one_image_left_and_a_distractor_with_none_are_unfit():
    people = {p: [f"{p}/{i}.jpg" for i in range(6)] for p in ("a", "q", "r", "d", "e")}
    chosen = {"closed": ["a"], "query": ["q", "r"], "distractors": ["d", "e"]}
    shared = {f"{p}/{i}.jpg": i for p in ("a", "q", "d") for i in range(6)}  # all of them are a's
    groups = shared | {f"r/{i}.jpg": i for i in range(5)} | {f"e/{i}.jpg": i for i in range(5)}
    parts, left_out, unfit = split_images(people, chosen, SplitOptions(), groups)
    assert unfit == ["q", "r", "d"]
    assert len(left_out) == 6 + 5 + 6 + 5
    assert parts["e/5.jpg"] == "distractors"


def test_shares_that_leave_nothing_for_train_are_refused():
    chosen = {"closed": ["p00"], "query": [], "distractors": []}
    people = {"p00": [f"p00/{i}.jpg" for i in range(6)]}
    with pytest.raises(InputError, match=r"--val 0\.45 and --test 0\.4 leave person 'p00' 1 of 6 images for train"):
        split_images(people, chosen, SplitOptions(val=0.45, test=0.4))
