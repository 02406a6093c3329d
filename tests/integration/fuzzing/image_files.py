"""Small pictures of every format and kind, the seeds that are damaged."""

import io

import numpy as np
from PIL import Image


def photograph(mode="RGB", height=48, width=24):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def saved(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def exif(orientation=6):
    notes = Image.Exif()
    notes[0x0112] = orientation
    notes[0x010F] = "a camera"
    notes.get_ifd(0x8769)[0x9000] = b"0230"
    return notes


def sixteen_bits():
    return Image.fromarray(np.asarray(photograph("L"), np.uint16) * 257)


SEEDS = {
    "jpeg": (
        saved(photograph(), "JPEG"),
        saved(photograph(), "JPEG", progressive=True, subsampling="4:4:4"),
        saved(photograph("L"), "JPEG", restart_marker_blocks=2),
        saved(photograph("CMYK"), "JPEG"),
        saved(photograph(), "JPEG", exif=exif(), comment=b"a comment", icc_profile=b"icc" * 50),
    ),
    "png": (
        saved(photograph(), "PNG"),
        saved(photograph().quantize(16), "PNG", transparency=3),
        saved(photograph("RGBA"), "PNG", exif=exif(8)),
        saved(sixteen_bits(), "PNG"),
        saved(photograph("1"), "PNG"),
    ),
    "webp": (
        saved(photograph(), "WEBP"),
        saved(photograph("RGBA"), "WEBP", lossless=True, exif=exif()),
        saved(photograph(), "WEBP", save_all=True, append_images=[photograph("L")]),
    ),
    "tiff": (
        saved(photograph(), "TIFF"),
        saved(photograph(), "TIFF", compression="tiff_lzw", exif=exif()),
        saved(photograph(), "TIFF", compression="jpeg"),
        saved(photograph("1"), "TIFF", compression="group4"),
        saved(photograph("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
        saved(sixteen_bits(), "TIFF", compression="packbits"),
        saved(photograph("F"), "TIFF"),
        saved(photograph(), "TIFF", save_all=True, append_images=[photograph("L")]),
    ),
    "gif": (
        saved(photograph().quantize(16), "GIF", transparency=3, comment=b"a comment"),
        saved(photograph(), "GIF", save_all=True, append_images=[photograph("L")]),
    ),
    "bmp": (
        saved(photograph(), "BMP"),
        saved(photograph().quantize(16), "BMP"),
        saved(photograph("1"), "BMP"),
        saved(photograph("RGBA"), "BMP"),
    ),
    "ppm": (
        saved(photograph(), "PPM"),
        saved(photograph("L"), "PPM"),
        saved(photograph("1"), "PPM"),
    ),
    "jpeg 2000": (
        saved(photograph(), "JPEG2000"),
        saved(photograph("L"), "JPEG2000", no_jp2=True),
        saved(photograph("RGBA"), "JPEG2000", tile_size=(16, 16)),
    ),
    "avif": (saved(photograph(), "AVIF"), saved(photograph("RGBA"), "AVIF")),
    "qoi": (saved(photograph(), "QOI"), saved(photograph("RGBA"), "QOI")),
}

TOKENS = {
    "jpeg": tuple(bytes((0xFF, marker)) for marker in (*range(0xC0, 0xF0), 0xFE, 0x00, 0x01)),
    "png": (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL"),
    "webp": (b"RIFF", b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"EXIF", b"ALPH"),
    "tiff": tuple(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + b"\1\0\0\0"
        for tag in (256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 322, 323, 330, 338, 339)
        for kind in (3, 4)
    ),
    "gif": (b"\x21\xf9\x04", b"\x21\xff\x0b", b"\x21\xfe", b"\x2c", b"\x3b", b"GIF87a"),
    "ppm": (b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b" 65535\n", b"# "),
    "jpeg 2000": tuple(
        bytes((0xFF, mark)) for mark in (0x4F, *range(0x51, 0x65), 0x90, 0x93, 0xD9)
    ),
    "avif": (b"ftyp", b"meta", b"iloc", b"ispe", b"pixi", b"av1C", b"mdat", b"iprp", b"auxC"),
    "qoi": (b"qoif", b"\xfe", b"\xff", b"\xc0", b"\0\0\0\0\0\0\0\1"),
    "bmp": (b"\x28\0\0\0", b"\x0c\0\0\0", b"\x7c\0\0\0", b"\1\0\x20\0", b"\3\0\0\0"),
}
