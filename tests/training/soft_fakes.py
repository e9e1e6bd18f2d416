"""Models with soft prompts, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from luthier.models import soft_prompts
from luthier.models.heads import body, logits

ADD = {
    "prompt-tuning": soft_prompts.add_prompt,
    "p-tuning": soft_prompts.add_encoded_prompt,
    "prefix-tuning": soft_prompts.add_prefix,
}
SOFT = sorted(ADD)
N = 6
IDS = torch.tensor([[5, 90, 33, 200, 7], [8, 1, 2, 9, 4]])


def base(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def made(folder: Path, method: str, words: Any = (1, 2, 3), **more: Any) -> Any:
    return ADD[method](base(folder), length=N, words=words, base="a-name", **more)


def stirred(model: Any, seed: int = 1) -> Any:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().float() for n, p in model.named_parameters() if p.requires_grad}


def stored(model: Any, folder: Path) -> Path:
    folder.mkdir(parents=True)
    soft_prompts.save(model, trained(model), folder)
    return folder


@torch.no_grad()
def ours(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Logits the way training and generation compute them."""
    return logits(model, body(model)(input_ids=ids, use_cache=False).last_hidden_state)


@torch.no_grad()
def plain(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    """Logits of the last tokens by the model's own forward."""
    return model(input_ids=ids).logits[:, -ids.shape[1] :].float()
