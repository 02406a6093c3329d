"""Build the vision transformer of TransReID (He et al. 2021) around a model of timm."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reidray.config.options.transformer_networks import TransReIDOptions
from reidray.errors import UserError
from reidray.models.backbones.backbone import create_body, pixel_scaling
from reidray.models.backbones.own_backbones import BACKBONES
from reidray.models.backbones.timm_bodies import create_timm_body, without_memory

PARTS = 4
SHIFT = 4
"""Patches that move from the beginning to the end before patches are shuffled: the first five
tokens, one of which is the class token, in the code behind the published weights."""
SHUFFLE_GROUPS = 2
CAMERA_WEIGHT = 3.0
"""Factor of the vector of a camera."""


class ReidTransformer(nn.Module):
    """Map a crop to a feature of the whole image, and to features of parts of it.

    Patches may overlap. A vector of the camera is added to all tokens, so that features need not
    hold what differs between cameras. The jigsaw branch shifts and shuffles the patches that enter
    the last block, and runs another last block over each of four parts of them, so that each part
    has patches from all over the image.

    Args:
        options: options of the network.
        num_cameras: number of training cameras.
        weights: weights that the model of timm starts from, as in `create_body`.

    Attributes:
        body: the model of timm.
        pixels: scaling of the pixels that pretrained weights of the model expect.
        num_features: length D of each feature.
        num_parts: number of parts of an image that have a feature of their own.
        initial_copies: name of the layer that each layer of the jigsaw branch begins as a copy of;
            weights of a file are copied in the same way.

    Raises:
        UserError: timm has no such transformer, it cannot take the images, or the weights cannot be
            loaded.
    """

    def __init__(self, options: TransReIDOptions, num_cameras: int, weights: str) -> None:
        super().__init__()
        body: Any = _create_overlapping_vit(options, weights)
        self.body = body
        self.pixels = pixel_scaling(body)
        self.num_features = int(body.num_features)
        self.num_parts = PARTS if options.jigsaw else 0
        if options.jigsaw:
            _check_patches(options, body.patch_embed.grid_size)
            self.part_block = copy.deepcopy(body.blocks[-1])
            self.part_norm = copy.deepcopy(body.norm)
            last = f"body.blocks.{len(body.blocks) - 1}"
            self.initial_copies = {"part_block": last, "part_norm": "body.norm"}
        self.camera_vectors: nn.Parameter | None = None
        if options.camera_embedding and num_cameras > 1:
            self.camera_vectors = nn.Parameter(torch.empty(num_cameras, self.num_features))
            nn.init.trunc_normal_(self.camera_vectors, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters without weight decay, beside those of `body`, as timm names them.

        The vectors of the cameras are added to the tokens as the position embeddings are.
        """
        return {"camera_vectors"}

    def new_parameters(self) -> set[str]:
        """Return the parameters that no pretrained weights fill, so that none freezes them."""
        return {"camera_vectors"}

    def forward(self, images: Tensor, camera_indices: Tensor | None = None) -> Tensor:
        """Return features (B, 1 + parts, D) float32, that of the whole image first.

        Args:
            images: (B, 3, H, W) float32, normalised.
            camera_indices: (B,) int64, -1 where unknown; None where no camera is known. An image of
                an unknown camera gets the mean of the vectors.
        """
        body: Any = self.body
        tokens = body._pos_embed(body.patch_embed(images))
        if self.camera_vectors is not None:
            mean = self.camera_vectors.mean(dim=0, keepdim=True)
            rows = mean
            if camera_indices is not None:
                rows = torch.cat([self.camera_vectors, mean])[camera_indices]  # -1 is the mean
            tokens = tokens + CAMERA_WEIGHT * rows[:, None]
        tokens = body.norm_pre(body.patch_drop(tokens))
        *blocks, last_block = body.blocks
        for block in blocks:
            tokens = block(tokens)
        whole: Tensor = body.norm(last_block(tokens))[:, :1]
        if not self.num_parts:
            return whole.float()
        parts = split_into_parts(tokens[:, body.num_prefix_tokens :])
        class_tokens = tokens[:, None, :1].expand(-1, self.num_parts, -1, -1)
        sequences = torch.cat([class_tokens, parts], dim=2).flatten(0, 1)
        features = self.part_norm(self.part_block(sequences))[:, 0]
        return torch.cat([whole, features.view(-1, self.num_parts, self.num_features)], 1).float()


def split_into_parts(patches: Tensor) -> Tensor:
    """Shift and shuffle patches, and split them into four parts of equal length.

    The first four patches move to the end. The patches of the first half and of the second half
    then alternate; if their number is odd, the last but one is used twice. Up to three patches at
    the end are left out. The published weights were trained with the same parts.

    Args:
        patches: (B, N, D).

    Returns:
        (B, 4, N // 4, D).
    """
    count, number, features = patches.shape
    length = number // PARTS
    shifted = patches.roll(-SHIFT, dims=1)
    if number % SHUFFLE_GROUPS:
        shifted = torch.cat([shifted, shifted[:, -2:-1]], dim=1)
    groups = shifted.reshape(count, SHUFFLE_GROUPS, -1, features)
    shuffled = groups.transpose(1, 2).reshape(count, -1, features)
    return shuffled[:, : PARTS * length].reshape(count, PARTS, length, features)


def _create_overlapping_vit(options: TransReIDOptions, weights: str) -> nn.Module:
    """Return a vision transformer of timm with a patch every `patch_stride` pixels.

    timm builds it for an image whose patches do not overlap but are as many, so that the position
    embeddings of pretrained weights are resized once, to the grid of the overlapping patches.
    """
    name, stride = options.backbone, options.patch_stride
    patch_size = _patch_size(name)
    if stride > min(patch_size):
        raise UserError(
            f"`network.patch_stride` {stride} leaves pixels between the patches of backbone {name}:"
            f" use {min(patch_size)} or less"
        )
    size = options.height, options.width
    grid = [(side - patch) // stride + 1 for side, patch in zip(size, patch_size, strict=True)]
    if min(grid) < 1:
        raise UserError(
            f"backbone {name} cannot take images of {size[0]}x{size[1]} pixels: they are smaller "
            f"than its patches: use {patch_size[0]}x{patch_size[1]} or more"
        )
    body: Any = create_body(name, weights, (grid[0] * patch_size[0], grid[1] * patch_size[1]))
    body.patch_embed.proj.stride = (stride, stride)
    body.patch_embed.img_size = size
    _drop_paths(body.blocks, options.drop_path)
    return body  # type: ignore[no-any-return]


def _patch_size(name: str) -> tuple[int, int]:
    """Return the height and width of the patches of a vision transformer.

    Raises:
        UserError: timm has no such model, or it is no vision transformer with a class token.
    """
    if name not in BACKBONES:
        with without_memory():
            body: Any = create_timm_body(name)
        from timm.layers import PatchEmbed
        from timm.models.vision_transformer import VisionTransformer

        is_plain = isinstance(body, VisionTransformer) and isinstance(body.patch_embed, PatchEmbed)
        if is_plain and body.has_class_token and body.global_pool == "token":
            height, width = body.patch_embed.patch_size
            return height, width
    raise UserError(
        f"network 'transreid' cannot use backbone {name}: choose a vision transformer of timm with "
        "a class token, such as vit_small_patch16_224"
    )


def _check_patches(options: TransReIDOptions, grid: Sequence[int]) -> None:
    """Check that the jigsaw branch has patches for each part."""
    patches = grid[0] * grid[1]
    if patches < PARTS:
        raise UserError(
            f"images of {options.height}x{options.width} pixels have {patches} patches, and "
            f"`network.jigsaw` needs {PARTS}: use larger images or a smaller `network.patch_stride`"
        )


def _drop_paths(blocks: Sequence[nn.Module], last_share: float) -> None:
    """Let training drop residual branches: a share that rises to `last_share` in the last block."""
    from timm.layers import DropPath

    for index, block in enumerate(blocks):
        share = last_share * index / max(len(blocks) - 1, 1)
        for name, _ in list(block.named_children()):
            if name.startswith("drop_path") and share:
                setattr(block, name, DropPath(share))
