"""Files as broken disks, cut connections, careless programs and ill will leave them."""

import struct
import zlib

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def mutate(data, others, tokens, random):
    """The bytes, damaged in one to four ways, perhaps with parts of other files."""
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(WAYS)(bytearray(data), others, tokens, random)
    return bytes(data)


def flip_bits(data, _others, _tokens, random):
    for _ in range(random.choice((1, 1, 8, 64)) if data else 0):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def set_number(data, _others, _tokens, random):
    """Put a number at the edge of what its bytes can hold somewhere."""
    number, kind = random.choice(NUMBERS), random.choice((">B", ">H", "<H", ">I", "<I"))
    packed = struct.pack(kind, number % (1 << 8 * struct.calcsize(kind)))
    place = random.randrange(len(data) + 1)
    data[place : place + len(packed)] = packed
    return data


def cut_off(data, _others, _tokens, random):
    return data[: random.randrange(len(data) + 1)]


def cut_out(data, _others, _tokens, random):
    start, end = piece(data, random)
    return data[:start] + data[end:]


def repeat(data, _others, _tokens, random):
    start, end = piece(data, random)
    return data[:end] + data[start:end] * random.choice((1, 2, 40)) + data[end:]


def exchange(data, _others, _tokens, random):
    start, end = piece(data, random)
    middle = random.randint(start, end)
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


def splice(data, others, _tokens, random):
    """The beginning of one file, then the end of another."""
    other = random.choice(others)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def put_in(data, others, _tokens, random):
    """A piece of a file in the middle of another."""
    other = random.choice(others)
    start, end = piece(other, random)
    place = random.randrange(len(data) + 1)
    return data[:place] + other[start:end] + data[place:]


def put_token(data, _others, tokens, random):
    """Something that the format has a meaning for, put in or written over what is there."""
    token = random.choice(tokens)
    place = random.randrange(len(data) + 1)
    return data[:place] + token + data[place + random.choice((0, len(token))) :]


def put_noise(data, _others, _tokens, random):
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 4, 300))) + data[place:]


WAYS = (
    *(flip_bits, set_number, cut_off, cut_out, repeat),
    *(exchange, splice, put_in, put_token, put_noise),
)


def piece(data, random):
    start, end = sorted((random.randrange(len(data) + 1), random.randrange(len(data) + 1)))
    return start, end if random.random() < 0.5 else min(end, start + random.randrange(64))


def with_right_checksums(data):
    """A PNG whose chunks have the checksums of what they hold, so that it is read further."""
    if not data.startswith(PNG_SIGNATURE):
        return data
    mended, place = bytearray(PNG_SIGNATURE), len(PNG_SIGNATURE)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + length]
        mended += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(mended)
