"""Comparisons of methods with given embeddings, without Ray."""

from types import MappingProxyType

import numpy as np

from reidray.baselines.lda import LDABaseline
from reidray.baselines.pca import PCABaseline
from reidray.baselines.pixel_moments import PixelMoments
from reidray.comparison.comparison_data import read_comparison_data
from reidray.comparison.comparison_result import Comparison
from reidray.comparison.method_evaluation import evaluate_method
from reidray.comparison.methods import FittedBaselines, Method
from reidray.config.comparison import CompareConfig
from reidray.data.images.decoding import decode_files
from support.person_crops import draw_crop

SIZE = (8, 4)


def draw_people(root, people=10, shots=6, tested=12):
    """Write a set in the layout of QUT: `tested` people have one query and one gallery image."""
    for person in range(1, people + 1):
        for shot in range(shots):
            name = f"{person:04d}_c{1 + shot % 3}s1_{shot:06d}_00.png"
            draw_crop(root / "Training" / name, person, shot, noise=40)
    for person in range(101, 101 + tested):
        probe, gallery = (root / "Testing" / name for name in ("Probe", "Gallery"))
        draw_crop(probe / f"{person:04d}_c1s1_000001_00.png", person, 1, noise=40)
        draw_crop(gallery / f"{person:04d}_c2s1_000002_00.png", person, 2, noise=40)
    return root


def compare_in_memory(root, embed, **settings):
    """Compare PCA, LDA and methods of your own on the images of a folder.

    `embed` maps the name of a method to a function of the labels of a set that returns its
    embeddings.
    """
    config = CompareConfig(
        data=str(root), output="unused", height=SIZE[0], width=SIZE[1], **settings
    )
    data = read_comparison_data(config)
    crops = decode_files(data.location, data.train.names, SIZE).crops
    moments = PixelMoments(SIZE)
    moments.add(crops)
    pca = PCABaseline.from_moments(moments, 0.99)
    lda = LDABaseline.fit(pca, pca.embed(crops), data.train.person_ids)
    projections = {"PCA 95%": pca.truncate(0.95), "LDA": lda}
    seconds = dict.fromkeys(projections, 1.0)
    baselines = FittedBaselines(MappingProxyType(projections), seconds, pca, moments, ())

    def embed_pixels(projection):
        return lambda labels: projection.embed(
            decode_files(data.location, labels.names, SIZE).crops
        )

    embedders = {name: embed_pixels(each) for name, each in projections.items()} | embed
    methods = [
        Method(
            name=name,
            metric="euclidean",
            embeddings={
                key: np.asarray(embedder(labels), np.float32) for key, labels in data.sets.items()
            },
            training_seconds=1.0,
            inference_seconds=1.0,
            model_id="" if name in projections else f"id of {name}",
        )
        for name, embedder in embedders.items()
    ]
    metrics = tuple(evaluate_method(method, data) for method in methods)
    return Comparison(config, data, metrics, baselines)
