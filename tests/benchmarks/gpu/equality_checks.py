"""Check on small inputs that a device computes what the CPU computes."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from retrieval_rows import RetrievalSizes, people_problem
from support.synthetic_people import CONFIG, build_network, build_task

import reidray
from reidray.config import AugmentConfig, OptimizerConfig
from reidray.data.augmentations import augment, image_tensor, plan_augmentation
from reidray.retrieval import Reranking, rerank, top_k
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit

CPU = torch.device("cpu")
SMALL = RetrievalSizes(queries=120, gallery=900, people=30, values=96)
COPIES = AugmentConfig(flip=0.5, shift=0.2, erasing=0.5)
WARPS = AugmentConfig(flip=0.5, rotation=10, shear=10, zoom=0.2, crop=0.2, erasing=0.5)
COLOURS = AugmentConfig(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
PATCHES = AugmentConfig(pad_crop=4, random_patch=0.5)
GRAY = AugmentConfig(grayscale=0.2, local_grayscale=0.5)
POLICIES = AugmentConfig(auto_augment=0.5, rand_augment={"operations": 2})
METRICS = ("euclidean", "cosine", "l1")
EPOCHS = 4


def small_problem():
    """Return people some of whose gallery images have exactly the same features."""
    problem = people_problem(SMALL, 1.5, CPU)
    problem.gallery[100:140] = problem.gallery[700:740]
    return problem


def check_evaluate(device):
    """Compare every value of `evaluate`, bit by bit."""
    here = small_problem()
    there = here.to(device)
    for metric in METRICS:
        for protocol in ("market1501", "cuhk03"):
            expected, found = (
                problem.evaluate(metric=metric, protocol=protocol) for problem in (here, there)
            )
            case = f"{metric}, {protocol}"
            _assert_same(expected.first_match_rank, found.first_match_rank, case)
            _assert_same(expected.average_precision, found.average_precision, case)
            _assert_same(expected.cmc, found.cmc, case)
    return f"the same bits, mAP {expected.mean_ap:.3f}"


def check_top_k(device):
    """Compare the indices of `top_k`, bit by bit, and its distances, in float32 and bfloat16."""
    here = small_problem()
    for dtype in (torch.float32, torch.bfloat16):
        query, gallery = here.query.to(dtype), here.gallery.to(dtype)
        for metric in METRICS:
            expected = top_k(query, gallery, 50, metric=metric)
            found = top_k(query.to(device), gallery.to(device), 50, metric=metric)
            case = f"{metric}, {dtype}"
            _assert_same(expected[1].numpy(), found[1].cpu().numpy(), case)
            torch.testing.assert_close(found[0].cpu(), expected[0], rtol=1e-6, atol=0)
    return "the same indices"


def check_rerank(device):
    """Compare the mAP after re-ranking to 1e-4, and count the indices that differ."""
    here = small_problem()
    there = here.to(device)
    maps = [problem.evaluate(reranking=Reranking(k1=10, k2=3)).mean_ap for problem in (here, there)]
    assert abs(maps[0] - maps[1]) < 1e-4, f"mAP {maps}"
    indices = [
        rerank(problem.query, problem.gallery, 20, k1=10, k2=3)[1].cpu()
        for problem in (here, there)
    ]
    same = float((indices[0] == indices[1]).float().mean())
    return f"mAP {maps[0]:.4f} and {maps[1]:.4f}, {same:.2%} of the indices are the same"


def check_augmentation(device):
    """Compare augmented crops: copies exactly, warps and colours to 1e-3 of the range.

    Of the pixels of policies nearly all: a last bit may round to another level.
    """
    crops = np.random.default_rng(0).integers(0, 256, (32, 64, 32, 3), dtype=np.uint8)
    largest = {}
    for name, config, tolerance in (
        ("copies", COPIES, 0.0),
        ("warps", WARPS, 0.255),
        ("colours", COLOURS, 0.255),
        ("patches", PATCHES, 0.0),
        ("grey", GRAY, 0.255),
        ("policies", POLICIES, 0.255),
    ):
        plan = plan_augmentation(config, len(crops), seed=0, epoch=0, step=0)
        expected, found = (
            augment(image_tensor(crops, each), plan, fill=117.0).cpu() for each in (CPU, device)
        )
        differences = (expected - found).abs().flatten()
        kept = len(differences) - (len(differences) // 100 if name == "policies" else 0)
        largest[name] = float(differences.kthvalue(kept).values)
        assert largest[name] <= tolerance, f"{name} differ by {largest[name]}"
    return "largest differences " + ", ".join(f"{n} {v:.2g}" for n, v in largest.items())


def check_losses(device):
    """Compare the losses of a batch, and the direction of their gradients."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        (expected, right), (found, direction) = map(_losses_and_gradient, (CPU, device))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    cosine = float(torch.nn.functional.cosine_similarity(right, direction, dim=0))
    assert cosine > 0.999, f"the cosine of the gradients is {cosine}"
    difference = float((found - expected).abs().max())
    return f"losses differ by {difference:.2g} at most, cosine of the gradients {cosine:.6f}"


def _losses_and_gradient(device):
    """Return the losses of a batch and the gradient of all weights, without dropout."""
    task = build_task(context=DistributedContext(device=device))
    network = build_network()
    task.prepare(network)
    network = network.to(device).eval()
    losses = task.losses(network, next(iter(task.batches(0))))
    sum(losses.values()).backward()
    gradients = [p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None]
    return torch.stack(list(losses.values())).detach().cpu(), torch.cat(gradients)


def check_embedding_order(model, device):
    """Compare the embeddings of the same images in other orders and other batches, bit by bit."""
    images = _images(model, 1100 if device.type == "cuda" else 150)  # several batches
    order = np.random.default_rng(1).permutation(len(images))
    for precision in ("fp32", "bf16"):
        embed = partial(reidray.embed, model, device=str(device), precision=precision)
        expected = embed(images)
        shuffled = np.empty_like(expected)
        shuffled[order] = embed(images[order])
        _assert_same(expected, shuffled, f"{precision}, another order")
        for count in (1, 7, 65):
            _assert_same(expected[:count], embed(images[:count]), f"{precision}, {count} alone")
    return "the same bits in every order and fill, fp32 and bf16"


def check_precisions(model, device):
    """Compare embeddings of the device in both precisions with those of the CPU in fp32."""
    images = _images(model, 64)
    expected = torch.from_numpy(reidray.embed(model, images, device="cpu", precision="fp32"))
    least = {}
    for precision, limit in (("fp32", 0.99999), ("bf16", 0.999)):
        found = reidray.embed(model, images, device=str(device), precision=precision)
        cosine = torch.nn.functional.cosine_similarity(expected, torch.from_numpy(found))
        least[precision] = float(cosine.min())
        assert least[precision] > limit, f"the least cosine of {precision} is {least[precision]}"
    return "least cosines " + ", ".join(f"{name} {value:.6f}" for name, value in least.items())


def _images(model, count):
    """Return noise of the height and width of a model, (N, H, W, 3) uint8."""
    options = model.architecture
    shape = (count, options.height, options.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


class _KeepCheckpoint:
    """Keep the checkpoint of one epoch."""

    def __init__(self, folder, epoch):
        self.folder, self.epoch = folder, epoch

    def on_train_start(self, records):
        """Ignore the earlier epochs."""

    def on_progress(self, progress):
        """Ignore the progress."""

    def on_epoch_end(self, record, save):
        """Save the checkpoint of the epoch."""
        if record["epoch"] == self.epoch:
            self.folder.mkdir()
            save(self.folder)


def check_resumed_training(device):
    """Compare a training that resumes from a checkpoint with one that never stopped."""
    with tempfile.TemporaryDirectory() as folder:
        halfway = Path(folder) / "halfway"
        whole = _train(device, _KeepCheckpoint(halfway, EPOCHS // 2))
        again = _train(device, _KeepCheckpoint(halfway, None))
        resumed = _train(device, _KeepCheckpoint(halfway, None), halfway)
    repeated, difference = (float((whole - other).abs().max()) for other in (again, resumed))
    assert difference <= 10 * repeated, f"weights differ by {difference}, repeated by {repeated}"
    if not repeated:
        return "the same weights, bit by bit"
    return f"weights differ by {difference:.2g}, those of a repeated training by {repeated:.2g}"


def _train(device, callback, checkpoint=None):
    """Return all weights after a training, and their average, as one vector."""
    context = DistributedContext(device=device)
    config = TrainerConfig(
        epochs=EPOCHS,
        seed=0,
        optimizer=OptimizerConfig(freeze_backbone=0.3, ema_decay=0.9),
        validation=CONFIG.validation,
        bf16=device.type == "cuda",
    )
    network = build_network()
    end = fit(
        build_task(context=context),
        network,
        config,
        callback,
        context=context,
        checkpoint=checkpoint,
    )
    values = [*network.state_dict().values(), *end.average.tensors().values()]
    return torch.cat([value.detach().flatten().double().cpu() for value in values])


def _assert_same(expected, found, case):
    """Check that two arrays have the same bits; not-a-number equals itself."""
    differ = ~((expected == found) | ((expected != expected) & (found != found)))
    assert not differ.any(), f"{case}: {int(differ.sum())} of {differ.size} values differ"
