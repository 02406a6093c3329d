import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.sampling import (
    balanced_batches,
    check_balanced_batch,
    check_identity_batch,
    identity_batches,
    people_per_dataset,
)
from reidray.errors import UserError

people_of_images = st.lists(st.integers(0, 12), min_size=8, max_size=120).filter(
    lambda people: len(set(people)) >= 4
)


def batches(people, seed=0, epoch=0, size=(4, 3)):
    return list(identity_batches(np.array(people), *size, seed=seed, epoch=epoch))


@given(people_of_images, st.integers(0, 5))
def test_a_batch_holds_p_different_people_with_k_crops_each(people, seed):
    for batch in batches(people, seed):
        shown = np.array(people)[batch]
        assert shown.shape == (4, 3)
        assert (shown == shown[:, :1]).all()
        assert len(set(shown[:, 0])) == 4


@given(people_of_images, st.integers(0, 5))
def test_every_image_is_used_in_every_epoch(people, epoch):
    seen = np.concatenate([batch.reshape(-1) for batch in batches(people, epoch=epoch)])
    assert set(seen.tolist()) == set(range(len(people)))


@given(people_of_images)
def test_the_length_of_an_epoch_follows_from_the_pieces_and_the_largest_person(people):
    pieces = [-(-people.count(person) // 3) for person in set(people)]
    assert len(batches(people)) == max(-(-sum(pieces) // 4), max(pieces))


def test_same_seed_and_epoch_give_the_same_batches_and_others_do_not():
    people = np.repeat(np.arange(20), 7)
    first = np.stack(batches(people, seed=1, epoch=2))
    assert np.array_equal(first, np.stack(batches(people, seed=1, epoch=2)))
    assert not np.array_equal(first, np.stack(batches(people, seed=1, epoch=3)))
    assert not np.array_equal(first, np.stack(batches(people, seed=2, epoch=2)))


def test_a_person_with_one_image_fills_their_crops_with_it():
    people = np.array([0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    (lonely,) = {tuple(row) for batch in batches(people) for row in batch if row[0] == 0}
    assert lonely == (0, 0, 0)


def test_too_few_people_are_refused_with_their_number():
    with pytest.raises(UserError, match="needs 8 people and the training images show 3"):
        check_identity_batch(np.array([1, 2, 3, 3]), 8, 4, 1)


@pytest.mark.parametrize("workers", [3, 4, 8])
def test_people_that_cannot_be_divided_among_workers_are_refused(workers):
    with pytest.raises(UserError, match=r"batch\.people"):
        check_identity_batch(np.arange(50), 7 if workers == 3 else 6, 4, workers)


cameras_of_people = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=12, max_size=120
).filter(lambda shown: len({person for person, _ in shown}) >= 4)


@given(cameras_of_people, st.integers(0, 5))
def test_crops_of_each_camera_are_spread_evenly(shown, seed):
    people, cameras = map(np.array, zip(*shown, strict=True))
    spread = list(identity_batches(people, 4, 3, seed=seed, epoch=0, camera_ids=cameras))
    assert len(spread) == len(batches(people, seed))
    assert set(np.concatenate([b.reshape(-1) for b in spread])) == set(range(len(people)))
    for row in (row for batch in spread for row in batch):
        theirs = cameras[people == people[row[0]]]
        pieces = -(-len(theirs) // 3)
        for camera in set(theirs):
            if (theirs == camera).sum() >= pieces:
                assert camera in cameras[row]


def test_a_camera_with_half_of_the_crops_gives_half_of_each_piece():
    people, cameras = np.repeat(np.arange(4), 8), np.tile([5, 5, 5, 5, 2, 2, 9, 9], 4)
    for batch in identity_batches(people, 4, 4, seed=0, epoch=0, camera_ids=cameras):
        assert np.array_equal(np.sort(cameras[batch]), [[2, 5, 5, 9]] * 4)


joined_images = st.lists(
    st.lists(st.integers(0, 9), min_size=4, max_size=24).filter(lambda each: len(set(each)) >= 4),
    min_size=2,
    max_size=3,
)


def joined(sets):
    """Return the person and the data set of each image; no person is in two sets."""
    people = [100 * number + person for number, each in enumerate(sets) for person in each]
    return np.array(people), np.repeat(np.arange(len(sets)), [len(each) for each in sets])


@given(joined_images, st.integers(0, 3), st.integers(4, 8))
def test_a_balanced_batch_draws_different_people_evenly_and_an_epoch_uses_every_image(
    sets, epoch, people
):
    person_ids, datasets = joined(sets)
    seen = set()
    for batch in balanced_batches(person_ids, datasets, people, 2, seed=1, epoch=epoch):
        assert batch.shape == (people, 2)
        assert (person_ids[batch] == person_ids[batch][:, :1]).all()
        assert len(set(person_ids[batch[:, 0]])) == people
        counts = np.bincount(datasets[batch[:, 0]], minlength=len(sets))
        assert counts.max() - counts.min() <= 1
        assert counts.tolist() == people_per_dataset(datasets, people)
        seen |= set(batch.reshape(-1).tolist())
    assert seen == set(range(len(person_ids)))


def test_balanced_batches_follow_from_seed_and_epoch_and_small_sets_start_again_in_other_batches():
    person_ids, datasets = joined([list(range(4)) * 3, list(range(40)) * 6])

    def plan(seed, epoch):
        batches = balanced_batches(person_ids, datasets, 8, 2, seed=seed, epoch=epoch)
        return np.stack(list(batches))

    first = plan(1, 2)
    assert len(first) == 40 * 3 // 4
    assert np.array_equal(first, plan(1, 2))
    assert not np.array_equal(first, plan(1, 3))
    assert not np.array_equal(first, plan(2, 2))
    small = np.sort(first[datasets[first[:, :, 0]] == 0].reshape(-1, 16), axis=1)
    assert len({tuple(pair) for pair in first[:, :4].reshape(-1, 2)}) > 12
    assert small.shape[0] * 16 > 3 * 12


def test_the_crops_of_a_balanced_batch_are_spread_over_cameras():
    person_ids, datasets = joined([list(range(4)) * 4, list(range(4)) * 4])
    cameras = np.tile(np.repeat([1, 2], 8), 2)
    batches = balanced_batches(person_ids, datasets, 4, 2, seed=0, epoch=0, camera_ids=cameras)
    for batch in batches:
        assert (np.sort(cameras[batch], axis=1) == [1, 2]).all()


def test_a_set_with_too_few_people_for_its_share_is_refused_by_its_name():
    person_ids, datasets = joined([[1, 2, 3, 4, 5, 6], [1, 2]])
    with pytest.raises(UserError, match=r"duke: has 2 training people.*takes 3.*people=4`"):
        check_balanced_batch(person_ids, datasets, ("market", "duke"), 6)
    with pytest.raises(UserError, match="use 2 or more"):
        check_balanced_batch(person_ids, datasets, ("market", "duke"), 1)
    check_balanced_batch(person_ids, datasets, ("market", "duke"), 5)
