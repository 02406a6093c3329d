import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from support.paths import DATA
from support.tiny_images import encode_image, two_coloured_image

from reidray.data.images.crops import CropGroup, CropTable
from reidray.data.images.decoding import decode_files
from reidray.data.images.masks import decode_mask
from reidray.data.images.pil_images import ImageDecodeError
from reidray.data.layouts import read_manifest
from reidray.errors import UserError
from reidray.storage.location import Location

TRIMAP = np.array([[1, 2, 3], [2, 2, 1]], np.uint8)
ANIMAL = np.array([[1, 0, 1], [0, 0, 1]], np.uint8)


def png(levels, mode=None, **options):
    return encode_image(Image.fromarray(levels).convert(mode or "L"), "PNG", **options)


def coloured(indices):
    """Return an image with a palette of colours, as tools for drawing masks write them."""
    pil_image = Image.fromarray(indices).convert("P")
    pil_image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    return encode_image(pil_image, "PNG")


def greys(indices, first, second):
    """Return an image with a palette of two greys in any order, as optimisers of files write it."""
    pil_image = Image.fromarray(indices).convert("P")
    pil_image.putpalette([first] * 3 + [second] * 3)
    return encode_image(pil_image, "PNG")


@pytest.mark.parametrize(
    "data",
    [
        png(TRIMAP),
        png(ANIMAL),
        png(ANIMAL * 255),
        png(ANIMAL * 255, "1"),
        png(ANIMAL * 255, "RGB"),
        encode_image(Image.fromarray(TRIMAP), "TIFF"),
        encode_image(Image.fromarray(TRIMAP.astype(np.uint16)), "PNG"),
        coloured(TRIMAP),
        coloured(ANIMAL),
        greys(ANIMAL, 0, 255),
        greys(1 - ANIMAL, 255, 0),
    ],
    ids=[
        "trimap",
        "0/1",
        "0/255",
        "bits",
        "rgb",
        "tiff",
        "16",
        "colours",
        "two",
        "greys",
        "turned",
    ],
)
def test_trimaps_and_masks_of_two_values_give_the_same_foreground(data):
    mask = decode_mask(data, (2, 3), None)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, ANIMAL)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image", "not an image of a known format"),
        (png(TRIMAP)[:45], "broken image"),
        (png(np.array([[0, 1, 2]], np.uint8)), "values 0, 1, 2, expected 1, 2 and 3 of a trimap"),
        (png(np.array([[0, 1, 255]], np.uint8)), "values 0, 1, 255, expected"),
        (png(np.arange(9, dtype=np.uint8)[None]), r"values 0, 1, 2, 3, 4, \.\.\., expected"),
        (
            encode_image(two_coloured_image(3, 2), "PNG"),
            "mode RGB, expected a mask of one grey channel",
        ),
        (png(ANIMAL * 255, "RGBA"), "mode RGBA"),
        (encode_image(Image.fromarray(TRIMAP.astype(np.float32)), "TIFF"), "mode F"),
        (png(TRIMAP.T), "2 x 3 pixels, expected 3 x 2 as its image has"),
    ],
)
def test_an_ambiguous_mask_is_refused_with_a_reason(data, reason):
    with pytest.raises(ImageDecodeError, match=reason):
        decode_mask(data, (2, 3), None)


@given(arrays.arrays(np.uint8, (4, 6), elements=st.integers(1, 3)), st.integers(1, 3))
def test_a_mask_is_resized_to_its_nearest_pixels(trimap, factor):
    larger = decode_mask(png(trimap), (4, 6), (4 * factor, 6 * factor))
    assert np.array_equal(larger, np.kron(trimap != 2, np.ones((factor, factor))))
    repeated = np.kron(trimap, np.ones((3, 3), np.uint8))
    assert np.array_equal(decode_mask(png(repeated), (12, 18), (4, 6)), trimap != 2)


def turned(pil_image, orientation, kind, **options):
    """Return a file that its EXIF orientation turns on its side or upside down."""
    stored = pil_image.transpose(
        {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode_image(stored, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_mask_must_be_as_large_as_its_upright_image(tmp_path, kind):
    trimap = np.full((30, 20), 2, np.uint8)
    trimap[:, :8] = 1
    mask = Image.fromarray(trimap)
    (tmp_path / "sideways").write_bytes(turned(two_coloured_image(20, 30), 6, kind))
    (tmp_path / "upright.png").write_bytes(encode_image(mask, "PNG"))
    (tmp_path / "turned.png").write_bytes(turned(mask, 6, "PNG"))
    (tmp_path / "lying.png").write_bytes(
        encode_image(mask.transpose(Image.Transpose.ROTATE_90), "PNG")
    )
    masks = ["upright.png", "turned.png", "lying.png"]
    decoded = decode_files(Location(str(tmp_path)), ["sideways"] * 3, (15, 10), masks)
    assert decoded.kept == (0, 1)
    assert decoded.masks.shape == (2, 15, 10)
    assert decoded.masks[:, :, :4].all()
    assert not decoded.masks[:, :, 4:].any()
    assert [image.reason for image in decoded.bad] == [
        "mask lying.png: 30 x 20 pixels, expected 20 x 30 as its image has"
    ]


def test_an_image_without_a_usable_mask_is_set_aside_and_the_others_keep_theirs(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encode_image(two_coloured_image(8, 6)))
    (tmp_path / "b.jpg").write_bytes(b"no image")
    for value in (1, 2):
        (tmp_path / f"{value}.png").write_bytes(png(np.full((6, 8), value, np.uint8)))
    (tmp_path / "text.png").write_bytes(b"no image")
    (tmp_path / "large.png").write_bytes(png(np.full((6, 9), 1, np.uint8)))
    pairs = [
        ("a.jpg", "1.png"),
        ("a.jpg", None),
        ("a.jpg", "gone.png"),
        ("b.jpg", "1.png"),
        ("a.jpg", "text.png"),
        ("a.jpg", "large.png"),
        ("a.jpg", "2.png"),
    ]
    paths, masks = zip(*pairs, strict=True)
    decoded = decode_files(Location(str(tmp_path)), paths, (3, 4), masks)
    assert decoded.kept == (0, 6)
    assert decoded.crops.shape == (2, 3, 4, 3)
    assert [int(mask.min()) for mask in decoded.masks] == [1, 0]
    assert [(image.path, image.reason) for image in decoded.bad] == [
        ("a.jpg", "it has no mask"),
        ("a.jpg", "mask gone.png: No such file or directory"),
        ("b.jpg", "not an image of a known format"),
        ("a.jpg", "mask text.png: not an image of a known format"),
        ("a.jpg", "mask large.png: 9 x 6 pixels, expected 8 x 6 as its image has"),
    ]
    assert decode_files(Location(str(tmp_path)), paths[:1], (3, 4)).masks is None


def group(rows, masked=True):
    numbers = np.array(rows, np.int64)
    crops = np.broadcast_to(numbers[:, None, None, None], (len(rows), 2, 4, 3)).astype(np.uint8)
    return CropGroup(numbers, crops, crops[..., 0] % 2 if masked else None)


def test_masks_are_gathered_beside_their_crops():
    table = CropTable([group([7, 2]), group([]), group([5, 4, 0])])
    rows = np.array([4, 7, 7, 0, 2])
    first, second = table.read([rows, rows[:2]])
    assert first.indices.tolist() == rows.tolist()
    assert first.crops[:, 0, 0, 0].tolist() == rows.tolist()
    assert first.masks.shape == (5, 2, 4)
    assert first.masks[:, 1, 3].tolist() == [0, 1, 1, 0, 0]
    assert second.crops[:, 1, 3, 2].tolist() == [4, 7]
    (plain,) = CropTable([group([1], masked=False)]).read([np.array([1])])
    assert plain.masks is None


@pytest.mark.parametrize("row", [1, 6, 8, -1])
def test_an_index_without_a_crop_is_named(row):
    table = CropTable([group([7, 2]), group([5, 4, 0])])
    with pytest.raises(KeyError, match=str(row)):
        list(table.read([np.array([4, row])]))


def test_the_real_masks_of_the_pets():
    folder = DATA / "pets-mini"
    if not folder.exists():
        pytest.skip("needs the real Oxford-IIIT Pets images")
    table = read_manifest(str(folder)).table
    table = table.take(np.arange(0, table.num_rows, 3))
    decoded = decode_files(
        Location(str(folder)),
        table["path"].to_pylist(),
        (64, 64),
        table["mask_path"].to_pylist(),
    )
    assert len(decoded.kept) == table.num_rows - len(decoded.bad)
    assert decoded.bad == ()
    assert 0.35 < decoded.masks.mean() < 0.45


def test_a_mask_out_of_the_folder_is_refused_and_one_behind_a_link_is_not_read(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.jpg").write_bytes(encode_image(two_coloured_image(8, 6)))
    (tmp_path / "secret.png").write_bytes(png(np.ones((6, 8), np.uint8)))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "above").symlink_to(tmp_path)
    location = Location(str(root))
    for mask in ("../secret.png", str(tmp_path / "secret.png")):
        with pytest.raises(UserError, match=r"leaves .*set"):
            decode_files(location, ["a.jpg"], (3, 4), [mask])
    for mask in ("out.png", "above/secret.png"):
        (bad,) = decode_files(location, ["a.jpg"], (3, 4), [mask]).bad
        assert "leaves" in bad.reason
