import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.data.sampling.batch_checks import check_balanced_batch, check_identity_batch
from reidray.data.sampling.identity_batches import (
    balanced_batches,
    count_balanced_batches,
    count_identity_batches,
    identity_batches,
    people_per_dataset,
)
from reidray.data.sampling.person_index import PersonIndex
from reidray.data.sampling.shuffled_batches import shuffled_batches
from reidray.errors import UserError

people_of_images = st.lists(st.integers(0, 12), min_size=8, max_size=120).filter(
    lambda people: len(set(people)) >= 4
)


skewed_people = st.lists(st.integers(1, 60), min_size=2, max_size=12).flatmap(
    lambda counts: st.permutations(np.repeat(np.arange(len(counts)), counts).tolist())
)
"""People with very different numbers of images, in any order."""


def index(people):
    return PersonIndex.from_person_ids(np.array(people))


def batches(people, seed=0, epoch=0, size=(4, 3), **options):
    return list(identity_batches(index(people), *size, seed=seed, epoch=epoch, **options))


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
    assert count_identity_batches(index(people), 4, 3) == len(batches(people))


@given(skewed_people, st.data())
def test_people_with_very_different_numbers_of_images_fill_every_batch(people, data):
    size = data.draw(st.integers(2, len(set(people)))), data.draw(st.integers(1, 5))
    planned = batches(people, epoch=data.draw(st.integers(0, 9)), size=size)
    assert len(planned) == count_identity_batches(index(people), *size)
    for batch in planned:
        shown = np.array(people)[batch]
        assert shown.shape == size
        assert (shown == shown[:, :1]).all()
        assert len(set(shown[:, 0])) == size[0]
    times = np.bincount(np.concatenate(planned).reshape(-1), minlength=len(people))
    assert times.min() >= 1
    for person in set(people):  # as evenly as the repeats of a person can be
        own = times[np.array(people) == person]
        assert own.max() - own.min() <= 1


def test_every_crop_is_used_once_where_the_pieces_fill_the_batches():
    people = np.repeat(np.arange(400), 12)
    used = np.concatenate(batches(people, size=(16, 4))).reshape(-1)
    assert np.array_equal(np.sort(used), np.arange(len(people)))


def test_people_come_up_in_proportion_to_their_pieces_from_the_first_batch_to_the_last():
    people = np.repeat(np.arange(60), [90] * 20 + [30] * 40)
    thirds = np.zeros(3)
    for epoch in range(10):
        planned = np.stack(batches(people, epoch=epoch, size=(8, 3)))
        of_many = people[planned[:, :, 0]] < 20
        thirds += [part.sum() for part in np.array_split(of_many, 3)]
    assert thirds.sum() == 10 * 20 * 30
    assert (abs(thirds / thirds.sum() - 1 / 3) < 0.02).all()


def test_any_two_people_can_meet_in_a_batch():
    people = np.repeat(np.arange(12), 40)
    met = np.zeros((12, 12))
    for batch in batches(people, size=(4, 2)):
        met[np.ix_(people[batch[:, 0]], people[batch[:, 0]])] += 1
    met = met[~np.eye(12, dtype=bool)]
    assert met.min() > 0
    assert met.max() < 3 * met.mean()


def test_every_order_of_the_crops_of_a_person_comes_up():
    people = np.repeat(np.arange(2), 4)
    pairs = {
        tuple(np.sort(row).tolist())
        for epoch in range(60)
        for batch in batches(people, epoch=epoch, size=(2, 2))
        for row in batch
    }
    assert len(pairs) == 2 * 6


@given(skewed_people, st.integers(0, 3))
def test_workers_share_the_same_batches(people, epoch):
    size = len(set(people)), 2
    cameras = np.arange(len(people)) % 3
    whole = batches(people, epoch=epoch, size=size, camera_ids=cameras)
    for rank in range(2):
        options = {"camera_ids": cameras, "rank": rank, "world_size": 2}
        shares = batches(people, epoch=epoch, size=size, **options)
        for batch, share in zip(whole, shares, strict=True):
            assert np.array_equal(batch[rank::2], share)


def test_a_plan_of_many_blocks_uses_every_crop_and_repeats_nobody_in_a_batch():
    people = np.random.default_rng(0).integers(0, 5000, 60_000)
    planned = list(identity_batches(index(people), 32, 2, seed=0, epoch=0))
    assert len(planned) == count_identity_batches(index(people), 32, 2)
    assert len(np.unique(np.concatenate(planned))) == len(people)
    for batch in planned:
        assert len(np.unique(people[batch[:, 0]])) == 32


def test_the_index_holds_the_crops_of_each_person_in_32_bits():
    found = index([10**15, -3, 10**15, 7])
    assert (found.order.tolist(), found.starts.tolist()) == ([1, 3, 0, 2], [0, 1, 2])
    assert (found.counts.tolist(), found.num_people) == ([1, 1, 2], 3)
    assert found.person_numbers().tolist() == [2, 0, 2, 1]
    assert {each.dtype for each in vars(found).values()} == {np.dtype(np.int32)}
    assert index([]).num_people == 0


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3))
def test_shuffled_batches_use_every_image_and_are_shared_by_workers(images, size, epoch):
    size = min(size, images)
    whole = list(shuffled_batches(images, size, seed=3, epoch=epoch))
    assert {len(batch) for batch in whole} == {size}
    assert len(whole) == -(-images // size)
    assert set(np.concatenate(whole).tolist()) == set(range(images))
    for rank in range(3):
        shares = shuffled_batches(images, size, seed=3, epoch=epoch, rank=rank, world_size=3)
        for batch, share in zip(whole, shares, strict=True):
            assert np.array_equal(batch[rank::3], share)


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
        check_identity_batch(index([1, 2, 3, 3]), 8, 4, 1)


@pytest.mark.parametrize("workers", [3, 4, 8])
def test_people_that_cannot_be_divided_among_workers_are_refused(workers):
    with pytest.raises(UserError, match=r"batch\.people"):
        check_identity_batch(index(range(50)), 7 if workers == 3 else 6, 4, workers)


cameras_of_people = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 3)), min_size=12, max_size=120
).filter(lambda shown: len({person for person, _ in shown}) >= 4)


@given(cameras_of_people, st.integers(0, 5))
def test_crops_of_each_camera_are_spread_evenly(shown, seed):
    people, cameras = map(np.array, zip(*shown, strict=True))
    spread = batches(people, seed, camera_ids=cameras)
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
    for batch in batches(people, size=(4, 4), camera_ids=cameras):
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
    planned = list(balanced_batches(index(person_ids), datasets, people, 2, seed=1, epoch=epoch))
    assert count_balanced_batches(index(person_ids), datasets, people, 2) == len(planned)
    for batch in planned:
        assert batch.shape == (people, 2)
        assert (person_ids[batch] == person_ids[batch][:, :1]).all()
        assert len(set(person_ids[batch[:, 0]])) == people
        counts = np.bincount(datasets[batch[:, 0]], minlength=len(sets))
        assert counts.max() - counts.min() <= 1
        assert counts.tolist() == people_per_dataset(datasets, people)
        seen |= set(batch.reshape(-1).tolist())
    assert seen == set(range(len(person_ids)))
    for rank in range(2):
        options = {"seed": 1, "epoch": epoch, "rank": rank, "world_size": 2}
        shares = balanced_batches(index(person_ids), datasets, people, 2, **options)
        for batch, share in zip(planned, shares, strict=True):
            assert np.array_equal(batch[rank::2], share)


def test_balanced_batches_follow_from_seed_and_epoch_and_small_sets_start_again_in_other_batches():
    person_ids, datasets = joined([list(range(4)) * 3, list(range(40)) * 6])

    def plan(seed, epoch):
        batches = balanced_batches(index(person_ids), datasets, 8, 2, seed=seed, epoch=epoch)
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
    options = {"seed": 0, "epoch": 0, "camera_ids": cameras}
    for batch in balanced_batches(index(person_ids), datasets, 4, 2, **options):
        assert (np.sort(cameras[batch], axis=1) == [1, 2]).all()


def test_a_set_with_too_few_people_for_its_share_is_refused_by_its_name():
    person_ids, datasets = joined([[1, 2, 3, 4, 5, 6], [1, 2]])
    with pytest.raises(UserError, match=r"duke: has 2 training people.*takes 3.*people=4`"):
        check_balanced_batch(index(person_ids), datasets, ("market", "duke"), 6)
    with pytest.raises(UserError, match="use 2 or more"):
        check_balanced_batch(index(person_ids), datasets, ("market", "duke"), 1)
    check_balanced_batch(index(person_ids), datasets, ("market", "duke"), 5)
