"""The vocabulary head at the positions that count, and nowhere else."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

KEEP_ELEMENTS = 2**22
"""Up to this many logits are kept for the backward pass; beyond, they are computed again, chunk by chunk."""


def _rows(vocabulary: int) -> int:
    return max(1, KEEP_ELEMENTS // vocabulary)


class _EdgeLogProbabilities(torch.autograd.Function):
    """log softmax(hidden · weightᵀ) at (source, token) pairs, never holding more than a chunk of logits."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, source: Tensor, token: Tensor) -> Tensor:  # type: ignore[override]
        normaliser = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        values = torch.empty(len(source), dtype=torch.float32, device=hidden.device)
        rows = _rows(len(weight))
        kept = None
        for start in range(0, len(hidden), rows):
            logits = (hidden[start : start + rows] @ weight.T).float()
            normaliser[start : start + rows] = logits.logsumexp(-1)
            here = (source >= start) & (source < start + rows) if len(hidden) > rows else slice(None)
            values[here] = logits[source[here] - start, token[here]]
            kept = logits if len(hidden) <= rows else None
        ctx.save_for_backward(hidden, weight, source, token, normaliser)  # type: ignore[attr-defined]
        ctx.kept = kept  # type: ignore[attr-defined]
        return values - normaliser[source]

    @staticmethod
    def backward(ctx, upstream: Tensor):  # type: ignore[no-untyped-def, override]
        hidden, weight, source, token, normaliser = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if needs_weight else None
        mass = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device).index_add_(0, source, upstream.float())
        rows = _rows(len(weight))
        for start in range(0, len(hidden), rows):
            stop = start + rows
            logits = ctx.kept if ctx.kept is not None else (hidden[start:stop] @ weight.T).float()
            grad = (logits - normaliser[start:stop, None]).exp_().mul_(-mass[start:stop, None])
            here = (source >= start) & (source < stop) if len(hidden) > rows else slice(None)
            grad.index_put_((source[here] - start, token[here]), upstream[here].float(), accumulate=True)
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[start:stop] = grad @ weight
            if grad_weight is not None:
                grad_weight += grad.T @ hidden[start:stop]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype), None, None


def edge_log_probabilities(hidden: Tensor, weight: Tensor, source: Tensor, token: Tensor) -> Tensor:
    """Log-probability, in nats, of `token` at row `source` of `hidden`; one for each edge.

    Shapes: hidden [N, H], weight [V, H], source and token [E]; returns [E] float32. Gradients reach `hidden` and
    `weight`. The matrix products run in the autocast type where autocast is on, the softmax in float32.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            return _EdgeLogProbabilities.apply(hidden, weight, source, token)  # type: ignore[return-value]
    return _EdgeLogProbabilities.apply(hidden, weight.to(hidden.dtype), source, token)  # type: ignore[return-value]
