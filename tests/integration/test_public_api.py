import subprocess
import sys

import numpy as np
import pytest
import ray
import torch
import yaml
from PIL import Image
from support.training_folders import write_person_folders

import reidray
from reidray.config import NetworkConfig
from reidray.data.attribute_schema import PEDESTRIAN_SCHEMA
from reidray.models import ModelCard, save_model
from reidray.models.factory import build_architecture, build_network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    architecture = build_architecture(
        "apr", backbone="resnet_tiny", num_people=3, height=32, width=16, schema=PEDESTRIAN_SCHEMA
    )
    save_model(
        folder, build_network(architecture), architecture, ModelCard(metric="cosine"), "# Model\n"
    )
    return reidray.load_model(folder)


def pixels(seed, height=40, width=20):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_importing_the_package_loads_neither_torch_nor_ray():
    script = (
        "import sys, reidray; assert {'embed', 'top_k'} <= set(dir(reidray)); "
        "print(reidray.__version__, *(m for m in ('torch', 'ray', 'numpy') if m in sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == [reidray.__version__]


def test_configuring_a_training_in_python_loads_neither_torch_nor_ray():
    script = (
        "import sys, time; began = time.perf_counter(); import reidray; "
        "seconds = time.perf_counter() - began; "
        "reidray.TrainReidConfig(data='crops', recipe='market_small'); "
        "print(seconds, *(m for m in ('torch', 'ray', 'numpy', 'pyarrow') if m in sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    (seconds,) = found.stdout.split()
    assert float(seconds) < 0.3


def test_every_public_name_is_there_and_no_other():
    for name in reidray.__all__:
        assert getattr(reidray, name)
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = reidray.embedd


def test_paths_pictures_and_arrays_of_the_same_pixels_have_the_same_embedding(model, tmp_path):
    array = pixels(0)
    pil_image = Image.fromarray(array)
    pil_image.save(tmp_path / "crop.png")
    found = reidray.embed(
        model, [tmp_path / "crop.png", str(tmp_path / "crop.png"), pil_image, array]
    )
    assert found.shape == (4, model.network.embedding_size)
    assert found.dtype == np.float32
    assert (found == found[0]).all()


def test_a_generator_longer_than_a_batch_keeps_its_order(model):
    found = reidray.embed(model, (pixels(seed) for seed in range(70)), device="cpu")
    alone = reidray.embed(model, [pixels(69)], device="cpu")
    assert found.shape[0] == 70
    np.testing.assert_allclose(found[69], alone[0], rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[0], found[69])


def test_no_images_give_no_rows(model):
    assert reidray.embed(model, []).shape == (0, model.network.embedding_size)


def test_an_image_in_a_bucket_is_embedded(model, bucket, tmp_path):
    from reidray.storage.location import Location

    Image.fromarray(pixels(1)).save(tmp_path / "crop.png")
    Location(bucket).write_bytes("crops/a b.png", (tmp_path / "crop.png").read_bytes())
    found = reidray.embed(model, [f"{bucket}/crops/a b.png", tmp_path / "crop.png"])
    assert (found[0] == found[1]).all()


def test_grey_and_transparent_pictures_are_read(model):
    grey = pixels(2)[:, :, 0]
    found = reidray.embed(
        model, [grey, Image.fromarray(grey), Image.fromarray(pixels(2)).convert("P")]
    )
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("missing.jpg", r"image 1 \(.*missing.jpg\) cannot be read: No such file"),
        (np.zeros((4, 4, 3), dtype=np.float32), "image 1 cannot be read: an array of float32"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"image 1 .* shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "has no pixels"),
        (Image.new("I", (4, 4)), "PIL mode I"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(model, image, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(reidray.UserError, match=message):
        reidray.embed(model, [pixels(0), image])


def test_a_file_that_is_no_picture_is_named(model, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(reidray.UserError, match=r"text.jpg\) cannot be read: not an image"):
        reidray.embed(model, [tmp_path / "text.jpg"])


def test_links_and_an_array_of_images_are_embedded(model, tmp_path):
    (tmp_path / "linked").mkdir()
    Image.fromarray(pixels(0)).save(tmp_path / "a.png")
    (tmp_path / "linked" / "b.png").symlink_to(tmp_path / "a.png")
    stacked = np.stack([pixels(0), pixels(1)])
    embeddings = reidray.embed(model, stacked)
    np.testing.assert_array_equal(embeddings, reidray.embed(model, list(stacked)))
    (linked,) = reidray.embed(model, [tmp_path / "linked" / "b.png"])
    np.testing.assert_array_equal(linked, embeddings[0])


def test_one_image_in_place_of_a_list_is_refused(model):
    with pytest.raises(TypeError, match="give a list of images"):
        reidray.embed(model, "a.jpg")


def test_the_address_of_a_model_in_its_place_is_refused():
    with pytest.raises(TypeError, match="`model` is str: give a model of `load_model`"):
        reidray.embed("RUN/model", ["a.jpg"])


def test_a_device_that_is_not_there_is_named(model):
    with pytest.raises(reidray.UserError, match="`device='warp:1'` is not available"):
        reidray.embed(model, [pixels(0)], device="warp:1")


def test_embeddings_are_ranked_and_judged(model):
    crops = [pixels(seed) for seed in (1, 2, 3)]
    embeddings = reidray.embed(model, crops)
    _, indices = reidray.top_k(embeddings, embeddings, k=1, metric=model.card.metric)
    assert indices[:, 0].tolist() == [0, 1, 2]
    people = np.array([1, 2, 3])
    found = reidray.evaluate(
        embeddings, embeddings, people, people, metric="cosine", protocol="all"
    )
    assert found.mean_ap == 1


@pytest.mark.cluster
def test_a_training_in_python_makes_a_model_that_embeds_ranks_and_is_evaluated(tmp_path):
    data = write_person_folders(tmp_path / "data", 8)
    network = NetworkConfig(name="baseline", height=32, width=16)
    config = reidray.TrainReidConfig(
        data=str(data),
        recipe="market_small",
        output=str(tmp_path / "run"),
        epochs=1,
        network=network,
    )
    was_connected = ray.is_initialized()
    run = reidray.train(config)
    assert ray.is_initialized() == was_connected
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert "recipe" not in written
    assert written["batch"]["people"] < 16  # the recipe's, adapted to few people
    model = reidray.load_model(run.model)
    query, gallery = sorted(data.glob("*/*_0.png")), sorted(data.glob("*/*_1.png"))
    query_embeddings = reidray.embed(model, query)
    gallery_embeddings = reidray.embed(model, gallery)
    distances, indices = reidray.top_k(query_embeddings, gallery_embeddings, k=3)
    assert distances.shape == indices.shape == (8, 3)
    ids = np.arange(8)
    result = reidray.evaluate(
        query_embeddings, gallery_embeddings, ids, ids, np.full(8, 1), np.full(8, 2)
    )
    assert 0 < result.mean_ap <= 1
