"""Everything measured on a candidate: one forward pass, one backward pass for each loss that is read, on one batch.

Only what is read is measured. The default score needs one forward pass and one backward pass that stops at
activations: the gradients of single samples make those of the weights superfluous.
"""

# B batch, C channels, H W space, K classes, D features, O outputs, I inputs

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Any

from archsearch.errors import InvalidRequest
from archsearch.evidence import passes
from archsearch.evidence.evidence import Evidence, NetworkEvidence, Read
from archsearch.evidence.inputs import Leaf, real_tokens
from archsearch.evidence.layers import differentiable
from archsearch.evidence.watch import Watch
from archsearch.kernels import bernoulli_kl, correlation, label_loss, label_residual, softened_kl
from archsearch.precision import Precision, autocast

if TYPE_CHECKING:
    from torch import Tensor, nn

# Soft enough to show what the teacher knows beyond its first choice, as in distillation itself. Of many labels none is
# first: each label's odds are taken as they are, as Yang et al. 2023 do.
TEMPERATURE = 4.0

# Labels drawn for each image; with 64 images that is 512 gradients for a matrix of some dozens of rows.
FISHER_DRAWS = 8

PROJECTION_SEED = 0

_TEACHER_LOSS: Set[Read] = {"live", "gradients", "samples", "input_kernel"}
_LABEL_LOSS: Set[Read] = {"label_gradients", "label_samples", "fisher"}


def observe_teacher(model: nn.Module, x_BCHW: Tensor, y: Tensor, reads: Set[Read]) -> NetworkEvidence:
    """The teacher's evidence, made once for all candidates.

    Args:
        model: The trained teacher, in eval mode.
        x_BCHW: The batch, normalised as the teacher expects it; or tokens B×2×T, as `inputs.real_tokens` has them.
        y: Labels, B, or B×K of 0 and 1 where an image has many.
        reads: What is read of the students; of the teacher only its share of that is measured.
    """
    import torch

    asked = reads & {"relations", "head", "ntk"}
    if "ntk" in reads and not differentiable(model):
        raise InvalidRequest(
            "the teacher has no gradients, and one of these voters reads them; leave out those that read its tangent "
            "kernel",
            field="search.score",
        )
    with (
        Leaf(model, x_BCHW, wanted="ntk" in reads) as leaf,
        torch.set_grad_enabled("ntk" in reads),
        Watch(model, asked, real_tokens(x_BCHW)) as watch,
    ):
        logits_BK = model(leaf.x)
    if "ntk" in reads:
        _tangent_kernel(watch, logits_BK, leaf.value)
    return watch.network(logits_BK.detach(), y)


def observe_student(
    model: nn.Module,
    x_BCHW: Tensor,
    y: Tensor,
    teacher: NetworkEvidence,
    reads: Set[Read],
    precision: Precision = "fp32",
) -> Evidence:
    """Measure an untrained student.

    Batch norm runs in train mode: untrained running statistics would hide the network from itself. The running
    statistics, the mode and the gradients are the candidate's own; it is thrown away afterwards. Encoders of texts have
    no batch norm but dropout, whose noise nobody wants measured: they run in eval mode.

    Args:
        model: The student at initialisation.
        x_BCHW: The batch, normalised as the student will be trained; or tokens B×2×T, as `inputs.real_tokens` has them.
            Of those padding counts for nothing, and input gradients are taken where ids have become numbers.
        y: Labels as above; only what is named after them looks at more than their shape, which tells the loss.
        teacher: What `observe_teacher` returned for the same images.
        reads: What to measure.
        precision: Of the forward and backward passes; what is made of them is in fp32 at least.
    """
    import torch

    mask_BT = real_tokens(x_BCHW)
    model.train(mask_BT is None)
    wanted = bool(reads - {"relations", "head", "codes", "patterns", "spectra"})
    with (
        Leaf(model, x_BCHW, wanted=wanted) as leaf,
        Watch(model, reads, mask_BT) as watch,
        torch.set_grad_enabled(wanted),
        autocast(precision, x_BCHW.device),
    ):
        logits_BK = model(leaf.x)
    measured = watch.forward_evidence() | _backward_evidence(watch, model, logits_BK, leaf, y, teacher, reads)
    # In one piece, and found under every name it was asked for by.
    asked_of_it = ("student", *(reads & {"relations", "head", "ntk"}))
    measured |= dict.fromkeys(asked_of_it, watch.network(logits_BK.detach(), y))
    watch.block_maps.clear()
    measured |= passes.own(model, x_BCHW.detach(), y, reads)
    layers = watch.layers()
    return Evidence(
        layers=layers,
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=sum(layer.params * layer.positions for layer in layers),
        batch_size=len(x_BCHW),
        teacher=teacher,
        measured=measured,
    )


def _backward_evidence(
    watch: Watch,
    model: nn.Module,
    logits_BK: Tensor,
    leaf: Leaf,
    y: Tensor,
    teacher: NetworkEvidence,
    reads: Set[Read],
) -> dict[str, Any]:
    """What backward passes through the one forward pass show, as many as are read."""
    import torch

    measured: dict[str, Any] = {}
    if asked := reads & _TEACHER_LOSS:
        measured |= _backward(watch, model, _teacher_loss(logits_BK, teacher.logits_BK, y), leaf, asked)
    if asked := reads & _LABEL_LOSS:
        measured |= _backward(watch, model, label_loss(logits_BK, y), leaf, asked)
    if "jacobian" in reads:
        (gradient_BX,) = torch.autograd.grad(logits_BK.sum(), leaf.value, retain_graph=True)
        measured["jacobian"] = correlation(gradient_BX, watch.mask_BT)
    if "ntk" in reads:
        _tangent_kernel(watch, logits_BK, leaf.value)
    if "fisher_information" in reads:
        measured["fisher_information"] = _fisher_information(watch, logits_BK, leaf.value, y)
    if "gains" in reads:
        measured["gains"] = passes.gains(watch.block_maps, spectral=False, mask_BT=watch.mask_BT)
    if "spectral_gains" in reads:
        measured["spectral_gains"] = passes.gains(watch.block_maps, spectral=True, mask_BT=watch.mask_BT)
    return measured


def _teacher_loss(student_BK: Tensor, teacher_BK: Tensor, y: Tensor) -> Tensor:
    """The distillation loss on the teacher's logits, as the labels' shape has it."""
    if y.ndim == 1:
        return softened_kl(student_BK, teacher_BK, TEMPERATURE)
    return bernoulli_kl(student_BK, teacher_BK)


def _backward(watch: Watch, model: nn.Module, loss: Tensor, leaf: Leaf, asked: Set[Read]) -> dict[str, Any]:
    """One backward pass of a loss, as deep as what is asked of it needs."""
    import torch

    wanted = passes.matrices(model) if asked & {"gradients", "label_gradients"} else {}
    with watch.backward(asked):
        found = torch.autograd.grad(loss, [leaf.value, *wanted.values()], retain_graph=True, allow_unused=True)
    measured: dict[str, Any] = {}
    if "input_kernel" in asked:
        measured["input_kernel"] = correlation(found[0], watch.mask_BT)
    if wanted:
        name = "gradients" if "gradients" in asked else "label_gradients"
        measured[name] = tuple(passes.as_weights(model, wanted, found[1:]))
    if "live" in asked:
        measured["live"] = watch.live()
    if "samples" in asked:
        measured["samples"] = watch.samples()
    if "label_samples" in asked:
        measured["label_samples"] = watch.samples()
    if "fisher" in asked:
        measured["fisher"] = tuple(watch.fisher.values())
    return measured


def _tangent_kernel(watch: Watch, logits_BK: Tensor, leaf_BX: Tensor) -> None:
    """The neural tangent kernel of one random projection of the logits, the same for every network of K classes."""
    import torch

    generator = torch.Generator().manual_seed(PROJECTION_SEED)
    sign_K = torch.randint(0, 2, logits_BK.shape[1:], generator=generator).to(logits_BK) * 2 - 1
    with watch.backward({"ntk"}):
        torch.autograd.grad(logits_BK, leaf_BX, sign_K.expand_as(logits_BK), retain_graph=True)


def _fisher_information(watch: Watch, logits_BK: Tensor, leaf_BX: Tensor, y: Tensor) -> Tensor:
    """F = E_x E_{c∼p(x)} ∇log p_c ∇log p_cᵀ, P×P, over the first weight of every layer, by drawing c a few times.

    Of many labels, c is a whole set of them: the student's answer has each label independently of the others.
    """
    import torch

    drawn = []
    for _ in range(FISHER_DRAWS):
        residual_BK = label_residual(logits_BK.detach(), _draw(logits_BK.detach(), y))
        with watch.backward({"fisher_information"}):
            torch.autograd.grad(logits_BK, leaf_BX, residual_BK.to(logits_BK.dtype), retain_graph=True)
        drawn.append(torch.stack(list(watch.first_B.values()), 1))
    score_NP = torch.cat(drawn)
    return score_NP.T @ score_NP / len(score_NP)


def _draw(logits_BK: Tensor, y: Tensor) -> Tensor:
    """Labels of y's shape at the odds a network gives them."""
    import torch

    if y.ndim == 2:
        return torch.bernoulli(logits_BK.float().sigmoid())
    return torch.multinomial(logits_BK.float().softmax(1), 1).squeeze(1)
