"""The set loss of Mask2Former (Cheng et al. 2022) for label maps with unlabelled pixels, which have no weight.

Points are drawn per image, and means are quotients of sums over the batch of all processes
(`distributed.all_reduce_sum`), so the loss does not depend on the number of processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from jointseg.runtime.distributed import all_reduce_sum

UNLABELLED = 255
OVERSAMPLING = 3  # candidates per point, from which the most uncertain ones are selected
IMPORTANCE = 0.75  # fraction of the points selected by uncertainty; the others are random


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms: those of the published loss, and of the two dense terms of this package."""

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    dense_weight: float = 1.0
    pixel_weight: float = 1.0
    points: int = 12544


def sample_points(x: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Return the values [n, c, p] of x [n, c, h, w] at points [n, p, 2], (x, y) in 0..1 from edge to edge."""
    grid = (2 * points - 1).unsqueeze(2)
    return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False).squeeze(3)


def _random_points(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    points = torch.empty(len(generators), count, 2)
    for points_of_image, generator in zip(points, generators):
        torch.rand(count, 2, generator=generator, out=points_of_image)
    return points.to(device)


def _dice(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return 1 - Dice over the last axis, smoothed by one point."""
    overlap = (probability * target * weight).sum(-1)
    total = (probability * weight).sum(-1) + (target * weight).sum(-1)
    return 1 - (2 * overlap + 1) / (total + 1)


def _mean(values: Tensor) -> Tensor:
    """Return the mean over the pairs of all processes; 0 if there are none."""
    number = torch.tensor(float(len(values)), device=values.device)
    total, number = all_reduce_sum(torch.stack([values.sum(), number])).unbind()
    return total / number.clamp(min=1)


def _binary_cross_entropy(logit: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over the labelled points of the last axis; 0 if there are none."""
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
    """Return the one-to-one assignment of queries to the classes of each image with the least cost.

    Args:
        class_logits: [n, q, classes + 1].
        mask_logits: [n, q, h, w].
        label: uint8 [n, H, W], 255 unlabelled.
        generators: on the CPU, one per image; they draw the points.

    Returns:
        Three index vectors of equal length: image, query, class. An image without labelled pixels has no pair.
    """
    images, classes = label.shape[0], class_logits.shape[2] - 1
    points = _random_points(generators, weights.points, mask_logits.device)
    point_label = sample_points(label.unsqueeze(1).float(), points, "nearest")
    labelled = (point_label != UNLABELLED).float()
    target = torch.cat([(point_label == value).float() for value in range(classes)], 1)
    logit = sample_points(mask_logits, points)
    positive = (F.softplus(-logit) * labelled) @ target.transpose(1, 2)
    negative = (F.softplus(logit) * labelled) @ (1 - target).transpose(1, 2)
    cost_mask = (positive + negative) / labelled.sum(2, keepdim=True).clamp(min=1)
    inside = logit.sigmoid() * labelled
    total = inside.sum(2, keepdim=True) + (target * labelled).sum(2).unsqueeze(1)
    cost_dice = 1 - (2 * (inside @ target.transpose(1, 2)) + 1) / (total + 1)
    cost = weights.mask_weight * cost_mask + weights.dice_weight * cost_dice
    cost = cost - weights.class_weight * class_logits.softmax(2)[..., :classes]
    table = cost.cpu().numpy()
    pairs: list[tuple[int, int, int]] = []
    for image in range(images):
        present = [value for value in range(classes) if bool((label[image] == value).any())]
        queries, columns = linear_sum_assignment(table[image][:, present])
        pairs += [(image, int(query), present[int(column)]) for query, column in zip(queries, columns, strict=True)]
    image, query, value = torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T.to(label.device)
    return image, query, value


@torch.no_grad()
def _uncertain_points(mask_logits: Tensor, label: Tensor, count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw points [m, count, 2], mostly where the masks [m, 1, h, w] are uncertain and the label [m, 1, H, W] exists."""
    device = mask_logits.device
    candidates = _random_points(generators, OVERSAMPLING * count, device)
    certainty = sample_points(mask_logits, candidates).abs().squeeze(1)
    unlabelled = sample_points(label, candidates, "nearest").squeeze(1) == UNLABELLED
    selected = int(IMPORTANCE * count)
    order = certainty.masked_fill(unlabelled, torch.inf).topk(selected, dim=1, largest=False).indices
    uncertain = candidates.gather(1, order.unsqueeze(2).expand(-1, -1, 2))
    return torch.cat((uncertain, _random_points(generators, count - selected, device)), 1)


def layer_loss(
    class_logits: Tensor,
    mask_logits: Tensor,
    label: Tensor,
    weights: LossWeights,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Return the sum of class, mask and dice terms of one decoder layer; shapes as in `match_queries`."""
    image, query, value = match_queries(class_logits, mask_logits, label, weights, generators)
    classes = class_logits.shape[2] - 1
    target_class = torch.full(class_logits.shape[:2], classes, device=label.device)
    target_class[image, query] = value
    balance = torch.ones(classes + 1, device=label.device)
    balance[classes] = weights.no_object_weight
    # An image without labelled pixels has no weight.
    weight = balance[target_class] * (label != UNLABELLED).flatten(1).any(1, keepdim=True)
    entropy = F.cross_entropy(class_logits.transpose(1, 2), target_class, reduction="none")
    total, number = all_reduce_sum(torch.stack([(entropy * weight).sum(), weight.sum()])).unbind()
    loss = weights.class_weight * total / number.clamp(min=weights.no_object_weight or 1)
    masks, labels = mask_logits[image, query].unsqueeze(1), label[image].unsqueeze(1).float()
    points = _uncertain_points(masks, labels, weights.points, [generators[index] for index in image.tolist()])
    logit = sample_points(masks, points).squeeze(1)
    sampled = sample_points(labels, points, "nearest").squeeze(1)
    labelled, target = (sampled != UNLABELLED).float(), (sampled == value.unsqueeze(1)).float()
    loss = loss + weights.mask_weight * _mean(_binary_cross_entropy(logit, target, labelled))
    return loss + weights.dice_weight * _mean(_dice(logit.sigmoid(), target, labelled))


def dense_loss(logit: Tensor, label: Tensor) -> Tensor:
    """Return cross-entropy + dice of an ISA logit [n, 1, h, w] over the labelled pixels of label [n, h, w]."""
    labelled, target = (label != UNLABELLED).float(), (label == 1).float()
    entropy = F.binary_cross_entropy_with_logits(logit.squeeze(1), target, reduction="none")
    inside = logit.squeeze(1).sigmoid() * labelled
    sums = [
        (entropy * labelled).sum(),
        labelled.sum(),
        (inside * target).sum(),
        inside.sum() + (target * labelled).sum(),
    ]
    total, number, overlap, area = all_reduce_sum(torch.stack(sums)).unbind()
    return total / number.clamp(min=1) + 1 - (2 * overlap + 1) / (area + 1)


def set_loss(
    layers: Sequence[tuple[Tensor, Tensor]], label: Tensor, weights: LossWeights, generators: Sequence[torch.Generator]
) -> Tensor:
    """Return the sum of `layer_loss` over (class_logits, mask_logits) of the initial queries and every decoder layer."""
    losses = [layer_loss(class_logits, mask_logits, label, weights, generators) for class_logits, mask_logits in layers]
    return torch.stack(losses).sum()
