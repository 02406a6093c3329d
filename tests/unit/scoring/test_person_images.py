from unicodedata import normalize

from reidray.scoring.store.person_images import find_images_of


def test_a_name_is_found_in_every_unicode_form():
    composed, decomposed = normalize("NFC", "José"), normalize("NFD", "José")
    assert composed != decomposed
    paths = [f"{composed}_c1_000001.jpg", f"{decomposed}_c1_000001.jpg", f"{decomposed}/x.jpg"]
    folders = ["/crops"] * 3
    for person in (composed, decomposed):
        assert find_images_of(person, folders, paths) == [True, True, True]
        assert find_images_of(f"/crops/{person}", folders, paths) == [False, False, True]
