"""Write the list of the images that do not decode."""

from collections.abc import Mapping, Sequence

from reidray.data.images.decoding import BadImage
from reidray.storage.csv_files import write_csv


def write_quarantine(bad: Mapping[str, Sequence[BadImage]]) -> bytes:
    """Return a CSV file of the images that do not decode, with the columns file, split, reason.

    A reason that names the field `follow_links` names the flag in the file, as a file passes no
    command line that could name it.

    Args:
        bad: the images of each split, by its name.
    """
    rows = (
        (image.path, split, image.reason.replace("`follow_links`", "--follow-links"))
        for split, images in bad.items()
        for image in images
    )
    return write_csv(("file", "split", "reason"), rows)
