import pickle
import socket

import pyarrow.fs
import pytest
from moto.server import ThreadedMotoServer
from support.tiny_images import encode_image, tiny_jpeg, two_coloured_image

from reidray.data.images.decoding import decode_files
from reidray.data.layouts import read_manifest
from reidray.data.reading.image_folders import list_images
from reidray.errors import UserError
from reidray.storage.location import Location

SECRET = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEY"


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(endpoint):
    files = {
        "set/train/0002_c1_016620005.jpg": tiny_jpeg(),
        "set/train/0007_c3_010187163.jpg": encode_image(two_coloured_image()),
        "set/train/0007_c4_010187164.jpg": b"broken",
        "set/test/a, b.jpg": tiny_jpeg(),
        "set/.hidden/c.jpg": tiny_jpeg(),
    }
    store = pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint, scheme="http", allow_bucket_creation=True
    )
    store.create_dir("crops")
    for name, data in files.items():
        with store.open_output_stream(f"crops/{name}") as stream:
            stream.write(data)
    return "s3://crops/set"


@pytest.fixture(params=["in the address", "in the environment"])
def uri(request, bucket, endpoint, monkeypatch):
    if request.param == "in the address":
        return f"{bucket}?endpoint_override={endpoint}&scheme=http"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    return bucket


def test_a_bucket_is_listed_and_read_like_a_folder(uri):
    location = pickle.loads(pickle.dumps(Location(uri)))
    assert location.list_children() == ["test/", "train/"]
    assert list_images(location, "test") == ["test/a, b.jpg"]
    assert len(location.list_files()) == 4
    assert location.list_files(recursive=False) == []
    assert location.join("test").list_files() == ["a, b.jpg"]
    assert location.join("test").parent == location
    assert location.read_bytes("test/a, b.jpg") == tiny_jpeg()
    assert location.read_bytes("test/a, b.jpg", len(tiny_jpeg())) == tiny_jpeg()
    with pytest.raises(OSError, match="More than 9 bytes"):
        location.read_bytes("test/a, b.jpg", 9)
    assert location.is_dir()
    assert location.join("test/a, b.jpg").is_file()
    assert not location.join("query").exists()


def test_a_layout_in_a_bucket_becomes_a_manifest_and_crops(uri):
    manifest = read_manifest(uri)
    assert manifest.layout == "trento"
    train = manifest.split("train")
    assert train["person"].to_pylist() == [2, 7, 7]
    decoded = decode_files(
        Location(manifest.root), [*train["path"].to_pylist(), "train/gone.jpg"], (32, 16)
    )
    assert decoded.kept == (0, 1)
    assert [bad.path[-8:] for bad in decoded.bad] == ["7164.jpg", "gone.jpg"]
    assert decoded.crops[1, 16, 2, 0] > 200


def test_missing_objects_are_named(uri):
    with pytest.raises(UserError, match="s3://crops/set/gone"):
        read_manifest(Location(uri).join("gone").uri)
    with pytest.raises(UserError, match="s3://no-such-bucket"):
        read_manifest(uri.replace("crops/set", "no-such-bucket"))
    with pytest.raises(UserError, match="leaves"):
        Location(uri).read_bytes("../other/a.jpg")


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://AKIAEXAMPLE:{SECRET}@crops/set",
        f"s3://crops/set?secret_key={SECRET}",
        f"s3://crops/set?endpoint_override=http://user:{SECRET}@host:9000",
    ],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(uri):
    with pytest.raises(UserError) as error:
        Location(uri)
    assert SECRET not in str(error.value)


def test_a_store_that_does_not_answer_is_named_without_credentials():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match=r"s3://crops/set.*cannot be read") as error:
        read_manifest(f"s3://crops/set?endpoint_override=127.0.0.1:{port}&scheme=http")
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
