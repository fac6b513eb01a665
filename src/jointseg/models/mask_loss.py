"""The set loss of Mask2Former (Cheng et al. 2022) for label maps with unknown pixels, which weigh nothing in it.

Points are drawn image by image, and means are quotients of sums over the whole batch, so that several processes may
share it (`processes.everywhere`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from jointseg.runtime.distributed import all_reduce_sum

UNLABELLED = 255
OVERSAMPLING = 3  # candidates per point kept, from which the least certain ones are taken
IMPORTANCE = 0.75  # share of the points taken for being uncertain; the rest lie anywhere


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; the published ones, beside those of the dense terms, which are ours."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    dense_weight: float = 1.0
    pixel_weight: float = 1.0
    points: int = 12544


def sample_points(x: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Values [n, c, p] of x [n, c, h, w] at points [n, p, 2], each (x, y) in 0..1 from edge to edge."""
    grid = (2 * points - 1).unsqueeze(2)
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False).squeeze(3)


def _random_points(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    points = torch.empty(len(generators), count, 2)
    for drawn, generator in zip(points, generators):
        torch.rand(count, 2, generator=generator, out=drawn)
    return points.to(device)


def _dice(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - Dice over the last axis, smoothed by one point."""
    overlap = (probability * target * weight).sum(-1)
    total = (probability * weight).sum(-1) + (target * weight).sum(-1)
    return 1 - (2 * overlap + 1) / (total + 1)


def _mean(values: Tensor) -> Tensor:
    """Mean over the pairs of all processes; 0 where there is none."""
    number = torch.tensor(float(len(values)), device=values.device)
    total, number = all_reduce_sum(torch.stack([values.sum(), number])).unbind()
    return total / number.clamp(min=1)


def _binary(logit: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known points of the last axis (0 where none is known)."""
    loss = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
    return (loss * weight).sum(-1) / weight.sum(-1).clamp(min=1)


@torch.no_grad()
def match_queries(
    class_logits: Tensor,
    mask_logits: Tensor,
    label: Tensor,
    weights: LossWeights,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor, Tensor]:
    """Cheapest one-to-one assignment of queries to the classes seen in each image.

    class_logits [n, q, classes + 1], mask_logits [n, q, h, w], label [n, H, W] uint8 with 255 unknown.
    `generators` (CPU) draw the points, one an image.
    Returns three index vectors of one length: image, query, class. An image without known pixels has no pair.
    """
    images, classes = label.shape[0], class_logits.shape[2] - 1
    points = _random_points(generators, weights.points, mask_logits.device)
    known_label = sample_points(label.unsqueeze(1).float(), points, "nearest")
    known = (known_label != UNLABELLED).float()
    target = torch.cat([(known_label == value).float() for value in range(classes)], 1)
    predicted = sample_points(mask_logits, points)
    of_class = (F.softplus(-predicted) * known) @ target.transpose(1, 2)
    of_rest = (F.softplus(predicted) * known) @ (1 - target).transpose(1, 2)
    cost_mask = (of_class + of_rest) / known.sum(2, keepdim=True).clamp(min=1)
    inside = predicted.sigmoid() * known
    total = inside.sum(2, keepdim=True) + (target * known).sum(2).unsqueeze(1)
    cost_dice = 1 - (2 * (inside @ target.transpose(1, 2)) + 1) / (total + 1)
    cost = weights.mask_weight * cost_mask + weights.dice_weight * cost_dice
    cost = cost - weights.class_weight * class_logits.softmax(2)[..., :classes]
    table = cost.cpu().numpy()
    pairs: list[tuple[int, int, int]] = []
    for image in range(images):
        seen = [value for value in range(classes) if bool((label[image] == value).any())]
        queries, columns = linear_sum_assignment(table[image][:, seen])
        pairs += [(image, int(query), seen[int(column)]) for query, column in zip(queries, columns, strict=True)]
    image, query, value = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T.to(label.device)
    return image, query, value


@torch.no_grad()
def _uncertain_points(mask_logits: Tensor, label: Tensor, count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Points [m, count, 2]: mostly where the masks [m, 1, h, w] are undecided and the labels [m, 1, H, W] known."""
    device = mask_logits.device
    candidates = _random_points(generators, OVERSAMPLING * count, device)
    certainty = sample_points(mask_logits, candidates).abs().squeeze(1)
    unknown = sample_points(label, candidates, "nearest").squeeze(1) == UNLABELLED
    taken = int(IMPORTANCE * count)
    order = certainty.masked_fill(unknown, torch.inf).topk(taken, dim=1, largest=False).indices
    uncertain = candidates.gather(1, order.unsqueeze(2).expand(-1, -1, 2))
    return torch.cat((uncertain, _random_points(generators, count - taken, device)), 1)


def layer_loss(
    class_logits: Tensor,
    mask_logits: Tensor,
    label: Tensor,
    weights: LossWeights,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Class, mask and dice terms of one decoder layer; shapes as in `match`."""
    image, query, value = match_queries(class_logits, mask_logits, label, weights, generators)
    classes = class_logits.shape[2] - 1
    wanted = torch.full(class_logits.shape[:2], classes, device=label.device)
    wanted[image, query] = value
    balance = torch.ones(classes + 1, device=label.device)
    balance[classes] = weights.no_object_weight
    # An image without known pixels has no class either; it weighs nothing.
    weight = balance[wanted] * (label != UNLABELLED).flatten(1).any(1, keepdim=True)
    entropy = F.cross_entropy(class_logits.transpose(1, 2), wanted, reduction="none")
    total, number = all_reduce_sum(torch.stack([(entropy * weight).sum(), weight.sum()])).unbind()
    loss = weights.class_weight * total / number.clamp(min=weights.no_object_weight or 1)
    masks, labels = mask_logits[image, query].unsqueeze(1), label[image].unsqueeze(1).float()
    points = _uncertain_points(masks, labels, weights.points, [generators[which] for which in image.tolist()])
    logit = sample_points(masks, points).squeeze(1)
    sampled = sample_points(labels, points, "nearest").squeeze(1)
    known, target = (sampled != UNLABELLED).float(), (sampled == value.unsqueeze(1)).float()
    loss = loss + weights.mask_weight * _mean(_binary(logit, target, known))
    return loss + weights.dice_weight * _mean(_dice(logit.sigmoid(), target, known))


def dense_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy + dice of an ISA logit [n, 1, h, w] over the known pixels of label [n, h, w]."""
    known, target = (label != UNLABELLED).float(), (label == 1).float()
    entropy = F.binary_cross_entropy_with_logits(logit.squeeze(1), target, reduction="none")
    inside = logit.squeeze(1).sigmoid() * known
    sums = [(entropy * known).sum(), known.sum(), (inside * target).sum(), inside.sum() + (target * known).sum()]
    total, number, overlap, both = all_reduce_sum(torch.stack(sums)).unbind()
    return total / number.clamp(min=1) + 1 - (2 * overlap + 1) / (both + 1)


def set_loss(
    layers: Sequence[tuple[Tensor, Tensor]],
    label: Tensor,
    weights: LossWeights,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Sum of `layer_loss` over (class_logits, mask_logits) of every decoder layer and of the initial queries."""
    losses = [layer_loss(class_logits, mask_logits, label, weights, generators) for class_logits, mask_logits in layers]
    return torch.stack(losses).sum()
