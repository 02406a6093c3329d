"""Images become one Parquet file of embeddings, which evaluate.py and top_k read as it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as papq
import pytest
from support.nightly_runs import Unreachable, draw, draw_images
from support.paths import JOBS

import reidray
from reidray.config.jobs.embedding import EmbedConfig
from reidray.config.scoring import EvaluateConfig
from reidray.errors import UserError
from reidray.evaluation.evaluation_run import run_evaluation
from reidray.inference.runs.embed_checks import check_embed
from reidray.inference.runs.embedding_run import run_embedding


def embed(model, data, output, **changes):
    settings = {"model": str(model), "data": str(data), "output": str(output)}
    session = Unreachable() if "num_workers" not in changes else None
    return run_embedding(EmbedConfig(**(settings | changes)), session, starts_ray=True)


def embeddings_of(file):
    column = papq.read_table(file)["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


@pytest.fixture
def market(tmp_path):
    """Eight people by two cameras, in the layout and with the file names of Market-1501."""
    folder = tmp_path / "market"
    for person in range(1, 9):
        draw(folder / "query" / f"{person:04d}_c1s1_000001_00.png", person, 0)
        for shot in (1, 2):
            name = f"{person:04d}_c2s1_00000{shot}_00.png"
            draw(folder / "bounding_box_test" / name, person, shot)
        draw(folder / "bounding_box_train" / f"{person + 20:04d}_c1s1_000001_00.png", person, 2)
    return folder


def test_evaluate_and_top_k_read_the_file_as_it_is(model, market, tmp_path):
    query, gallery = tmp_path / "query.parquet", tmp_path / "gallery.parquet"
    embed(model, market / "query", query)  # file names tell person and camera
    found = embed(model, market, gallery, split=("gallery",))
    assert (found["images"], found["embedded"], found["workers"]) == (16, 16, 0)
    config = EvaluateConfig(query_features=str(query), gallery_features=str(gallery))
    metrics = run_evaluation(config)
    paths = sorted(map(str, (market / "query").iterdir()))
    loaded = reidray.load_model(model)
    np.testing.assert_array_equal(embeddings_of(query), reidray.embed(loaded, paths))
    people, cameras = np.arange(1, 9), np.ones(8, np.int64)
    expected = reidray.evaluate(
        embeddings_of(query),
        embeddings_of(gallery),
        people,
        np.repeat(people, 2),
        query_cameras=cameras,
        gallery_cameras=np.repeat(cameras + 1, 2),
        metric="cosine",
    )
    assert metrics["metric"] == loaded.card.metric == "cosine"
    assert metrics["mean_ap"] == pytest.approx(expected.mean_ap)
    assert metrics["queries_used"] == 8
    assert "market1501" in metrics["protocol"]
    _, indices = reidray.top_k(embeddings_of(query), embeddings_of(gallery), k=2)
    assert indices.shape == (8, 2)


def test_files_of_two_models_are_not_compared(model, market, tmp_path):
    query, gallery = tmp_path / "query.parquet", tmp_path / "gallery.parquet"
    embed(model, market, query, split=("query",))
    embed(model, market, gallery, split=("gallery",), flip=True)
    config = EvaluateConfig(query_features=str(query), gallery_features=str(gallery))
    assert run_evaluation(config)["metric"] == "cosine"
    table = papq.read_table(gallery)
    other = {**table.schema.metadata, b"model": b"0123456789abcdef"}
    papq.write_table(table.replace_schema_metadata(other), gallery)
    with pytest.raises(UserError, match=r"gallery\.parquet those of 0123456789abcdef: embed both"):
        run_evaluation(config)


@pytest.mark.cluster
@pytest.mark.usefixtures("ray_address")
def test_actors_give_the_rows_of_this_process_and_distributed_search_reads_them(model, tmp_path):
    from reidray.retrieval import distributed

    data = draw_images(tmp_path / "data", people=40, variants=4)
    here, actors = tmp_path / "here.parquet", tmp_path / "actors.parquet"
    embed(model, data / "gallery", here)
    found = embed(model, data / "gallery", actors, num_workers=2)
    assert found["workers"] == 2
    assert papq.read_table(here).equals(papq.read_table(actors), check_metadata=True)
    gallery = embeddings_of(here)
    distances, indices = distributed.top_k(gallery[:5], str(here), k=3, metric="cosine")
    expected = reidray.top_k(gallery[:5], gallery, k=3, metric="cosine")
    np.testing.assert_array_equal(indices, expected[1])
    np.testing.assert_array_equal(distances, expected[0])


def test_the_file_names_model_settings_and_predicted_values(model, market, tmp_path):
    embed(model, market, tmp_path / "all.parquet", flip=True, precision="bf16")
    table = papq.read_table(tmp_path / "all.parquet")
    described = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    loaded = reidray.load_model(model)
    assert described["model"] == f"{loaded.model_id}-bf16-flip"
    assert (described["precision"], described["flip"]) == ("bf16", "true")
    assert (described["metric"], described["root"]) == ("cosine", str(market))
    rows = table.to_pylist()
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert {row["split"] for row in rows} == {"train", "query", "gallery"}
    assert {row["predicted_gender"] for row in rows} <= {"male", "female"}
    assert {(row["person"], row["camera"]) for row in rows if row["split"] == "query"} == {
        (person, 1) for person in range(1, 9)
    }


def test_people_and_cameras_with_names_keep_them_in_every_file(model, tmp_path):
    for name in ("anna", "ben"):
        for camera in (1, 2):
            draw(tmp_path / "crops" / f"{name}_c{camera}_000001.png", len(name), camera)
    draw(tmp_path / "crops" / "unnamed.png", 9, 0)
    embed(model, tmp_path / "crops", tmp_path / "crops.parquet", layout="none")
    rows = papq.read_table(tmp_path / "crops.parquet").to_pylist()
    assert [row["person"] for row in rows] == ["anna", "anna", "ben", "ben", None]
    assert [row["camera"] for row in rows] == [1, 2, 1, 2, None]
    lines = ["path,split,person,camera", "anna_c1_000001.png,query,anna,hall"]
    lines.append("ben_c2_000001.png,gallery,ben,door")
    (tmp_path / "crops" / "list.csv").write_text("\n".join(lines))
    embed(model, tmp_path / "crops" / "list.csv", tmp_path / "listed.parquet")
    rows = papq.read_table(tmp_path / "listed.parquet").to_pylist()
    assert [(row["person"], row["camera"]) for row in rows] == [("anna", "hall"), ("ben", "door")]


def test_anonymous_images_have_no_columns_of_people(model, tmp_path):
    draw_images(tmp_path / "data", people=3, variants=1)
    found = embed(model, tmp_path / "data" / "queries", tmp_path / "queries.parquet")
    assert not {"person", "camera", "split"} & set(found["columns"])


def test_row_groups_are_written_as_embeddings_come(model, tmp_path, monkeypatch):
    monkeypatch.setattr("reidray.inference.runs.embedding_table.ROW_GROUP", 100)
    draw_images(tmp_path / "data", people=50, variants=5)
    embed(model, tmp_path / "data" / "gallery", tmp_path / "rows.parquet")
    file = papq.ParquetFile(tmp_path / "rows.parquet")
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert groups == [100, 100, 50]
    paths = file.read()["path"].to_pylist()
    assert paths == sorted(paths)


def test_images_that_do_not_decode_are_named_beside_the_file(model, market, tmp_path, caplog):
    (market / "query" / "0003_c1s1_000001_00.png").write_bytes(b"no image")
    output = tmp_path / "out" / "all.parquet"
    with pytest.raises(UserError, match=r"1 of 32 images cannot be decoded.*0003_c1s1"):
        embed(model, market, output)
    assert not output.parent.exists()
    found = embed(model, market, output, max_bad=0.1)
    assert (found["embedded"], found["quarantined"]) == (31, 1)
    assert papq.read_metadata(output).num_rows == 31
    listed = (output.parent / "all.quarantine.csv").read_text().splitlines()
    assert listed[0] == "file,split,reason"
    assert listed[1].startswith("query/0003_c1s1_000001_00.png,query,")
    assert "0003_c1s1_000001_00.png" in caplog.text
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "all.parquet",
        "all.quarantine.csv",
    ]


def test_a_bucket_is_read_and_written(model, market, bucket, tmp_path):
    store, path = pafs.FileSystem.from_uri(bucket)[0], bucket.removeprefix("s3://")
    for file in sorted((market / "query").iterdir()):
        with store.open_output_stream(f"{path}/crops/{file.name}") as stream:
            stream.write(file.read_bytes())
    found = embed(model, f"{bucket}/crops", f"{bucket}/new/query.parquet")
    embed(model, market / "query", tmp_path / "query.parquet")
    with store.open_input_file(f"{path}/new/query.parquet") as file:
        table = papq.read_table(file)
    assert found["output"] == f"{bucket}/new/query.parquet"
    assert table.equals(papq.read_table(tmp_path / "query.parquet"))
    with pytest.raises(UserError, match="exists"):
        embed(model, market / "query", f"{bucket}/new/query.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "there.parquet"}, "exists"),
        ({"output": "market"}, "parquet"),
        ({"output": "market/x.parquet"}, "lies in `data`"),
        ({"output": "there.parquet/x.parquet"}, "is a file"),
        ({"data": "none"}, "no such folder or manifest"),
        ({"model": "market"}, "has no model.json"),
        ({"layout": "msmt17"}, "layout"),
        ({"split": ("test",)}, "expected train, val, query or gallery"),
    ],
)
def test_a_mistake_is_told_before_pytorch_loads(
    model, market, tmp_path, monkeypatch, changes, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.parquet").write_text("mine")
    settings = {"model": str(model), "data": market.name, "output": "x.parquet"}
    with pytest.raises((UserError, ValueError), match=message):
        check_embed(EmbedConfig(**(settings | changes)))


def test_the_job_embeds_and_prints_one_object(model, market, tmp_path):
    command = [sys.executable, JOBS / "embed.py", "--model", model, "--data", market]
    command += ["--split", "query", "gallery", "--output", tmp_path / "two.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["embedded"], Path(found["output"]).name) == (24, "two.parquet")
