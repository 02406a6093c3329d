"""Small manifests, annotations, rankings, truths and features, the seeds that are damaged."""

import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as papq

from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.data.reading.annotations import write_annotations

TOKENS = (
    *(b"99999999999999999999", b"9" * 5000, b"-1", b"2.0", b"1e999", b"nan", b"null", b"true"),
    *(b'"', b",", b",,,,", b": ", b"\r\n", b"\n\n", b"\t", b"\0", b"[", b"{", b"[[[[" * 400),
    *(
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xe2\x80\xae",
        b"\\ud800",
        b"..",
        b"/",
        b"train",
    ),
)

IMAGES = ("train/1.jpg", "train/2.jpg", "query/3.jpg", "gallery/4 x.jpg")
MARKET_NAMES = (
    *("0002_c1s1_000451_03.jpg", "0003_c1s1_000451_03.jpg"),
    *("0002_c2s1_000451_03.jpg", "-1_c1s1_000451_03.jpg"),
)
EMBEDDINGS = np.arange(12, dtype=np.float32).reshape(4, 3)


def _manifest():
    return pa.table(
        {
            "path": IMAGES,
            "split": ["train", "val", "query", "gallery"],
            "person": [1, 2, None, -1],
            "camera": [1, 2, 3, None],
            "attr_gender": ["male", None, "female", "female"],
            "attr_tall": [0, 1, -1, 2],
            "label": ["a", "b", "a", "c"],
            "mask_path": ["m/1.png", None, "", "m/4.png"],
            "remark": [1.5, 2.5, 3, 4],
        }
    )


def _features():
    columns = {
        "embedding": EMBEDDINGS.tolist(),
        "person": [1.0, 2, 0, 3],
        "camera": [1, 2, 3, None],
    }
    return pa.table(columns | {"path": MARKET_NAMES})


def _csv(table):
    data = io.BytesIO()
    pacsv.write_csv(table, data)
    return data.getvalue()


def _parquet(table, **options):
    data = io.BytesIO()
    papq.write_table(table, data, **options)
    return data.getvalue()


def _npz(save, **arrays):
    data = io.BytesIO()
    save(data, **arrays)
    return data.getvalue()


def odd_arrays(random):
    """An archive that is whole, of arrays that say odd things of themselves."""
    shapes = ((4, 3), (4,), (0, 3), (-1, 3), (10**12, 3), (2**70,), (3.5,), ("a",), (10**5,) * 6)
    kinds = ("<f4", "<i8", "|O", "<U4", "<U99999999", "|V8", [("a", "<f4")], "<M8[s]", "?", 7)
    data = io.BytesIO()
    with zipfile.ZipFile(
        data, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_LZMA))
    ) as archive:
        for name in ("embedding", "person", random.choice(("camera", "path"))):
            told = {"descr": random.choice(kinds), "fortran_order": random.choice((False, True, 2))}
            header = repr(told | {"shape": random.choice(shapes)}).encode() + b"\n"
            member = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header
            archive.writestr(f"{name}.npy", member + bytes(random.choice((0, 16, 48))))
    return data.getvalue()


def _annotations():
    sizes = zip(PEDESTRIAN_SCHEMA.names, PEDESTRIAN_SCHEMA.sizes, strict=True)
    codes = {name: size - 1 for name, size in sizes}
    return write_annotations([("0001", codes), ("0002", dict.fromkeys(codes, 0)), ("0003", None)])


_PLAIN = {"compression": "none", "use_dictionary": False}
_PEOPLE = {"person": np.array([1, 2, -1, 0]), "camera": np.array([1, 2, 3, 4])}

SEEDS = {
    "manifest.csv": (
        _csv(_manifest()),
        _csv(_manifest()).replace(b'"', b"").replace(b"\n", b"\r\n"),
    ),
    "manifest.parquet": (
        _parquet(_manifest()),
        _parquet(_manifest(), **_PLAIN),
        _parquet(_manifest(), compression="zstd", data_page_version="2.0"),
    ),
    "annotations.csv": (_annotations(), _annotations().replace(b"\n", b"\r\n")),
    "ranking.txt": (
        b"q.jpg: a.jpg, b.jpg\n10:30.jpg:\nr s.jpg: c.jpg,\n",
        "\ufeffé.jpg:a.jpg,b.jpg\r\n".encode(),
    ),
    "truth.json": (json.dumps({"q.jpg": ["a.jpg", "b.jpg"], "r.jpg": ["c.jpg"]}).encode(),),
    "features.npz": (
        _npz(np.savez, embedding=EMBEDDINGS, **_PEOPLE),
        _npz(np.savez_compressed, embedding=EMBEDDINGS.astype(np.float16), path=MARKET_NAMES),
    ),
    "features.parquet": (_parquet(_features()), _parquet(_features(), **_PLAIN)),
}
