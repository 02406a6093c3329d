import tracemalloc

import numpy as np
import pytest
from support.comparisons import compare_in_memory, draw_people

from reidray.comparison.person_errors import (
    confusion_cells,
    find_suspects,
    most_confused,
    person_accuracy,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return draw_people(tmp_path_factory.mktemp("people"), shots=9)


def swapping(person, other, images):
    """Return a method that takes the first images of a person for another, and is right else."""

    def embed(labels):
        places = labels.person_ids * 10.0
        moved = [name.endswith(images) for name in labels.names] & (labels.person_ids == person)
        return np.where(moved, other * 10.0, places)[:, None]

    return embed


def test_rows_of_the_confusion_matrix_are_shares_of_the_images_of_a_person():
    cells = confusion_cells(np.array([3, 3, 3, 8, 8]), np.array([3, 8, 9, 8, 8]))
    np.testing.assert_allclose(cells, [[1 / 3, 1 / 3, 1 / 3], [0, 1, 0], [0, 0, 0]])


def test_many_people_share_the_cells_of_the_confusion_matrix():
    people = np.repeat(np.arange(100_000), 2)
    tracemalloc.start()
    cells = confusion_cells(people, people)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(cells, np.eye(200))
    assert peak < 50_000_000  # a matrix of the people would take 80 GB


@pytest.fixture(scope="module")
def confused(root):
    first = "000000_00.png"
    embed = {"a": swapping(2, 4, first), "b": swapping(2, 4, first)}
    return compare_in_memory(root, embed, val_fraction=0)


def test_the_pair_that_a_method_confuses_has_images_of_both_people(confused):
    (pair,) = most_confused(confused.metrics[2], confused.data, 3)
    query, gallery = (confused.data.sets[name] for name in confused.data.neighbour_sets)
    assert (pair.person, pair.other, pair.images, pair.total) == (2, 4, 1, 3)
    assert query.names[pair.query].endswith("0002_c1s1_000000_00.png")
    assert gallery.person_ids[[pair.match, pair.confused]].tolist() == [2, 4]


def test_accuracy_of_each_person(confused):
    people, shares = person_accuracy(confused.metrics[2], confused.data, 3)
    assert people.tolist() == list(range(1, 11))
    np.testing.assert_allclose(shares, np.where(people == 2, 2 / 3, 1))


def test_an_image_that_several_methods_take_for_another_person_looks_mislabelled(confused):
    models = confused.metrics[2:]
    (suspect,) = find_suspects(models, confused.data)
    query, gallery = (confused.data.sets[name] for name in confused.data.neighbour_sets)
    assert query.names[suspect.query].endswith("0002_c1s1_000000_00.png")
    assert (suspect.person, suspect.other, suspect.methods) == (2, 4, 2)
    assert gallery.person_ids[[suspect.match, suspect.confused]].tolist() == [2, 4]


def test_what_one_method_or_a_person_without_a_right_image_shows_is_not_suspect(root):
    one = compare_in_memory(root, {"a": swapping(2, 4, "000000_00.png")}, val_fraction=0)
    assert find_suspects(one.metrics[2:], one.data) == []
    never = {name: swapping(2, 4, ".png") for name in "ab"}
    all_wrong = compare_in_memory(root, never, val_fraction=0)
    assert find_suspects(all_wrong.metrics[2:], all_wrong.data) == []
