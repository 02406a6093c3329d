"""Write files that are named like images and are none, and images of unusual kinds."""

import io
import os
import re
import socket
import struct
import zlib
from contextlib import chdir

import numpy as np
from PIL import Image

from reidray.data.images.pil_images import MAX_BYTES


def encode_image(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png(width, height, pixels, bits=1, colours=0):
    """Return a PNG whose header states this size, whatever its data hold."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    parts = (b"IHDR" + header, b"IDAT" + pixels)
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (*parts, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def decompression_bomb(width, height):
    """Return a valid PNG of zeros, whose file is a thousandth of its pixels."""
    return png(width, height, zlib.compress(bytes(height * (1 + -(-width // 8)))))


def sixteen_bit_colour(image):
    rows = np.asarray(image).astype(">u2") * 257
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png(*image.size, packed, bits=16, colours=2)


def many_scans(width, height, scans):
    """Return a progressive JPEG that repeats its last scan many times."""
    data = encode_image(Image.new("L", (width, height), 128), "JPEG", progressive=True)
    last = [found.start() for found in re.finditer(b"\xff\xda", data)][-1]
    return data[:-2] + data[last:-2] * scans + data[-2:]


def put_bad_files(folder, elsewhere):
    """Write files that are named like images but cannot be decoded.

    Args:
        folder: folder to write to.
        elsewhere: folder with images that the links in `folder` lead to.

    Returns:
        Name of each file to a pattern of the reason why it is a bad image.
    """
    image = encode_image(Image.new("RGB", (16, 32), "red"), "JPEG")
    contents = {
        "cut off.jpg": (image[: len(image) * 2 // 3], "broken"),
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"Dear colleague,\nno image.\n", "not an image"),
        "bomb.png": (png(40_000, 40_000, b""), "pixels"),
        "packed bomb.png": (decompression_bomb(12_000, 12_000), "12000 x 12000"),
        "scans.jpg": (many_scans(4000, 4000, 10_000), "paints over itself too often"),
    }
    for name, (data, _) in contents.items():
        (folder / name).write_bytes(data)
    reasons = {name: reason for name, (_, reason) in contents.items()}
    links = {
        "outside.jpg": next(elsewhere.iterdir()),
        "outside folder.jpg": elsewhere,
        "dangling.jpg": "nothing.jpg",
        "loop.jpg": "loop.jpg",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    reasons |= dict.fromkeys(
        ("outside.jpg", "outside folder.jpg"), "a link that leaves the folder: see .*follow.links"
    )
    reasons |= {"dangling.jpg": "No such file", "loop.jpg": "symbolic links"}
    with (folder / "large.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    with chdir(folder), socket.socket(socket.AF_UNIX) as listener:  # a socket's path must be short
        listener.bind("socket.jpg")
    reasons |= {"large.jpg": "bytes", "folder.jpg": "Is a directory"}
    reasons |= {"pipe.jpg": "regular file", "socket.jpg": "No such device"}
    if os.geteuid():
        (folder / "forbidden.jpg").write_bytes(image)
        (folder / "forbidden.jpg").chmod(0)
        reasons["forbidden.jpg"] = "Permission denied"
    return reasons


def unusual_images(image):
    """Encode a grey RGB image in every format, mode and orientation that is read.

    Returns:
        Name to bytes. All files but the JPEGs hold the exact pixels.
    """
    assert image.mode == "RGB"
    grey = image.convert("L")
    sixteen = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    notes = Image.Exif()
    notes[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    sharp = {"quality": 100, "subsampling": 0}
    return {
        "png.jpg": encode_image(image, "PNG"),
        "palette.png": encode_image(grey.quantize(256), "PNG"),
        "palette.gif": encode_image(grey.quantize(256), "GIF"),
        "sixteen bits.png": encode_image(sixteen, "PNG"),
        "sixteen bits in colour.png": sixteen_bit_colour(image),
        "sixteen bits.tif": encode_image(sixteen, "TIFF"),
        "cmyk.tif": encode_image(image.convert("CMYK"), "TIFF"),
        "transparent.webp": encode_image(image.convert("RGBA"), "WEBP", lossless=True),
        "turned.png": encode_image(turned, "PNG", exif=notes),
        "10:30 turned.jpg": encode_image(turned, "JPEG", exif=notes, **sharp),
        "cmyk.jpg": encode_image(image.convert("CMYK"), "JPEG", **sharp),
        "turned cmyk.jpg": encode_image(turned.convert("CMYK"), "JPEG", exif=notes, **sharp),
    }
