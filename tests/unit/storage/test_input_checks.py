import pytest

from reidray.errors import UserError
from reidray.storage.input_checks import check_data, check_file, check_folder
from reidray.storage.location import Location


@pytest.fixture
def places(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.csv").write_text("x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_existing_inputs_pass(places):
    check_folder("queries", str(places / "full"), holds=("a.csv",))
    check_data("data", str(places / "full"))
    check_data("data", str(places / "full" / "a.csv"))
    check_file("truth", str(places / "full" / "a.csv"))
    check_folder("store", None)


@pytest.mark.parametrize(
    ("check", "name", "complaint"),
    [
        (check_folder, "none", "^`field` .*/none: no such folder$"),
        (check_data, "none", "^`field` .*/none: no such folder or manifest$"),
        (check_file, "none", "^`field` .*/none: no such file$"),
        (check_file, "none/x/y/z", "^`field` .*/none/x/y/z: no such file; .* has no none$"),
        (check_folder, "empty", "^`field` .*/empty: the folder is empty$"),
        (check_data, "empty", "^`field` .*/empty: the folder is empty$"),
        (check_folder, "full/a.csv", "^`field` .*: is a file, expected a folder$"),
        (check_file, "full", "^`field` .*: is a folder, expected a file$"),
    ],
)
def test_missing_inputs_are_named(places, check, name, complaint):
    with pytest.raises(UserError, match=complaint):
        check("field", str(places / name))


@pytest.mark.parametrize("check", [check_folder, check_data, check_file])
def test_an_empty_address_is_named_by_its_field(check):
    with pytest.raises(UserError, match=r"^`field` '': expected a local path or s3://"):
        check("field", "")


def test_a_folder_without_a_model_is_refused(places):
    with pytest.raises(UserError, match=r"has no model\.json; give a model directory"):
        check_folder("model", str(places / "full"), holds=("model.json",))


def test_inputs_in_a_bucket_are_checked(bucket):
    Location(bucket).write_bytes("a/b.csv", b"x")
    check_folder("queries", f"{bucket}/a", holds=("b.csv",))
    check_data("data", f"{bucket}/a/b.csv")
    check_file("truth", f"{bucket}/a/b.csv")
    name = bucket.removeprefix("s3://")
    with pytest.raises(UserError, match=f"/none: no such folder in the bucket {name}$"):
        check_folder("queries", f"{bucket}/none")
    with pytest.raises(UserError, match=f"no such bucket as {name}-not$"):
        check_data("data", f"{bucket}-not/a")
