"""The parameters behind soft prompts: peft's encoders, started from words."""

from __future__ import annotations

from typing import Any

import torch
from peft import PrefixTuningConfig
from peft.tuners import PrefixEncoder, PromptEncoder

from luthier.models.shared_keys import States, record

#: What peft calls the only adapter of a model.
ADAPTER = "default"


class PrefixFromWords(PrefixEncoder):
    """Keys and values of words, plus what the reparametrising MLP adds to them (0 at the start)."""

    def __init__(self, config: Any, start: torch.Tensor) -> None:
        super().__init__(config)
        # the MLP's output is the sum's second term; its last layer starts at 0
        torch.nn.init.zeros_(self.transform[-1].weight)
        torch.nn.init.zeros_(self.transform[-1].bias)
        self.register_buffer("start", start, persistent=False)

    def forward(self, prefix: torch.Tensor) -> torch.Tensor:
        """(b, n) to (b, n, layers * 2 * heads * head_dim)."""
        out: torch.Tensor = super().forward(prefix) + self.start
        return out


class PromptFromWords(PromptEncoder):
    """Embeddings of words, plus what the encoder adds to them (0 at the start)."""

    def __init__(self, config: Any, start: torch.Tensor) -> None:
        super().__init__(config)
        torch.nn.init.zeros_(self.mlp_head[-1].weight)
        torch.nn.init.zeros_(self.mlp_head[-1].bias)
        self.register_buffer("start", start, persistent=False)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """(b, n) to (b, n, hidden)."""
        out: torch.Tensor = super().forward(indices) + self.start
        return out


class PeftPrefix:
    """A soft prefix whose parameters are peft's. It holds the model and no closures, so that a deep
    copy of the model has a prefix of its own."""

    def __init__(self, soft: Any) -> None:
        self._soft = soft

    @property
    def _config(self) -> Any:
        return self._soft.peft_config[ADAPTER]

    @property
    def length(self) -> int:
        """Positions, n."""
        return int(self._config.num_virtual_tokens)

    def _encoded(self) -> torch.Tensor:
        """(1, n, width). The encoder computes in float32, whatever the model does."""
        encoder = self._soft.prompt_encoder[ADAPTER]
        weight = encoder.embedding.weight
        if self._config.inference_mode:
            out: torch.Tensor = weight[None]
        else:
            out = encoder(torch.arange(self.length, device=weight.device)[None])
        return out.to(self._soft.get_base_model().dtype)

    def states(self) -> States:
        """Keys and values, with their gradient where that is enabled."""
        if isinstance(self._config, PrefixTuningConfig):
            return unflat(self._encoded(), self._config)
        return record(self._soft.get_base_model().base_model, inputs_embeds=self._encoded())

    def embeddings(self) -> torch.Tensor | None:
        """(1, n, hidden) in the model's precision; None for prefix tuning, which has none."""
        return None if isinstance(self._config, PrefixTuningConfig) else self._encoded()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those of the encoder."""
        return list(self._soft.prompt_encoder[ADAPTER].parameters())

    def disabled(self) -> bool:
        """Whether peft's `disable_adapter` is in force."""
        return bool(self._soft._adapters_disabled)


def flat(states: States) -> torch.Tensor:
    """peft's layout, (n, layers * 2 * heads * head_dim), of keys and values (1, heads, n, d)."""
    parts = [part[0] for pair in states for part in pair]  # (heads, n, d)
    stacked = torch.stack(parts).permute(2, 0, 1, 3)  # (n, layers * 2, heads, d)
    return stacked.flatten(1).float().contiguous()


def unflat(states: torch.Tensor, config: Any) -> States:
    """The inverse of `flat` for (1, n, ...)."""
    heads = int(config.num_attention_heads)
    shaped = states.view(
        1,
        int(config.num_virtual_tokens),
        2 * int(config.num_layers),
        heads,
        int(config.token_dim) // heads,
    ).permute(2, 0, 3, 1, 4)
    return [(shaped[i], shaped[i + 1]) for i in range(0, shaped.shape[0], 2)]
