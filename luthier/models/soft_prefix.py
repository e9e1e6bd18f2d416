"""The body of a model with a soft prefix: learned positions that stand before every row.

Prompt tuning, p-tuning and prefix tuning all come down to keys and values in every layer before a
row's first token. `SoftBody` puts them there and is called like the body it stands for, so training
and generation need not know of them: positions and masks are given as if the prefix were not there.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from transformers.cache_utils import Cache, DynamicCache

from luthier.errors import ModelError
from luthier.models.heads import keeps_state
from luthier.models.shared_keys import States, record, shared

#: Words of the self-test, half of them before and half of them after the cut.
_PROBE = 12


class Prefix(Protocol):
    """Where the keys and values of a soft prefix come from."""

    @property
    def length(self) -> int:
        """Positions, n."""

    def states(self) -> States:
        """Keys and values, with their gradient where that is enabled."""

    def embeddings(self) -> torch.Tensor | None:
        """Input embeddings (1, n, hidden) that these are computed from; None where there are
        none."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """What `states` depends on."""

    def disabled(self) -> bool:
        """Whether the plain model is wanted for now."""


class SoftBody:
    """Called like the body of a causal model; every row starts with the soft prefix.

    Hidden states are those of the tokens given, never those of the prefix. A cache that is empty is
    started with the prefix; one that is not has it already.

    Args:
        body: what is called in the end.
        prefix: what is put before every row.
    """

    def __init__(self, body: Any, prefix: Prefix) -> None:
        self.body = body
        self.prefix = prefix
        self._kept: tuple[Any, States] | None = None

    @property
    def length(self) -> int:
        """Positions of the prefix, n."""
        return self.prefix.length

    def __getattr__(self, name: str) -> Any:
        """Whatever else a body has (its config, its layers)."""
        if name == "body" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.body, name)

    def states(self) -> States:
        """Keys and values of the prefix; computed once where no gradient is wanted."""
        parameters = self.prefix.parameters()
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return self.prefix.states()
        # a step, a load or a move changes at least one of these
        key = [(p.data_ptr(), p._version, p.dtype) for p in parameters]
        if self._kept is None or self._kept[0] != key:
            # tensors of inference mode could not be used outside it
            with torch.inference_mode(False), torch.no_grad():
                self._kept = key, self.prefix.states()
        return self._kept[1]

    def __call__(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **rest: Any,
    ) -> Any:
        """What the body returns for tokens (b, s) behind the prefix.

        Args:
            input_ids: (b, s), or `inputs_embeds` (b, s, hidden).
            attention_mask: (b, t) or (b, 1, s, t), over t cached and new tokens without the prefix.
            position_ids: (b, s), counted without the prefix.
            past_key_values: empty, or filled by an earlier call.
            use_cache: with no cache given: whether one is to be returned.

        Raises:
            ModelError: the layers are computed again in the backward pass, and the prefix has keys
                and values only.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        inputs: dict[str, Any] = (
            {"input_ids": input_ids} if input_ids is not None else {"inputs_embeds": inputs_embeds}
        )
        inputs |= rest
        if self.prefix.disabled():
            return self.body(
                **inputs,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
            )
        if attention_mask is not None:
            attention_mask = self._seen(attention_mask)
        if position_ids is not None:
            position_ids = position_ids + self.length
        if past_key_values is None and self._recomputed():
            return self._in_one_pass(inputs, attention_mask, position_ids)
        if past_key_values is None and not use_cache:
            past_key_values = shared(self.states())
        elif past_key_values is None:
            past_key_values = DynamicCache()
        if past_key_values.get_seq_length() == 0:
            rows = given.shape[0]
            for layer, (keys, values) in enumerate(self.states()):
                past_key_values.update(
                    keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer
                )
        return self.body(
            **inputs,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=True,
        )

    def _seen(self, mask: torch.Tensor) -> torch.Tensor:
        """The mask with n columns before it that all may look at."""
        columns = (*mask.shape[:-1], self.length)
        # masks of four dimensions are added to the scores, unless they are truth values
        added = mask.ndim == 4 and mask.is_floating_point()
        before = mask.new_zeros(columns) if added else mask.new_ones(columns)
        return torch.cat([before, mask], dim=-1)

    def _recomputed(self) -> bool:
        """Whether layers are computed again in the backward pass; such layers ignore caches."""
        return bool(self.body.training) and any(
            getattr(module, "gradient_checkpointing", False) for module in self.body.modules()
        )

    def _in_one_pass(
        self,
        inputs: dict[str, Any],
        mask: torch.Tensor | None,
        positions: torch.Tensor | None,
    ) -> Any:
        prefix = self.prefix.embeddings()
        if prefix is None:
            raise ModelError(
                "Prefix tuning cannot be trained with gradient checkpointing: layers that are "
                "computed again keep no keys and values to put it in.",
                fix="Leave out training.gradient_checkpointing, or use prompt-tuning.",
            )
        own = inputs.pop("inputs_embeds", None)
        if own is None:
            own = self.body.get_input_embeddings()(inputs.pop("input_ids"))
        prefix = prefix.to(own.dtype).expand(own.shape[0], -1, -1)
        if positions is not None:
            first = torch.arange(self.length, device=positions.device)
            positions = torch.cat([first.expand(positions.shape[0], -1), positions], dim=1)
        out = self.body(
            **inputs,
            inputs_embeds=torch.cat([prefix, own], dim=1),
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
        )
        out.last_hidden_state = out.last_hidden_state[:, self.length :]
        return out


@torch.no_grad()
def check_suits(model: Any) -> None:
    """Refuse a model that cannot have a soft prefix, by trying one made of words.

    What a model computes behind the keys and values of six embedded words must be what it computes
    behind these words themselves. Models that keep a recurrent state, that share keys and values
    between layers, that need token ids in every layer, or whose positions depend on more than the
    cache (some ALiBi models) fail here, and not later with wrong answers.

    Args:
        model: a transformers causal LM in evaluation mode.

    Raises:
        ModelError: with what does not hold.
    """
    kind = model.config.get_text_config().model_type
    fix = "Use lora or full, or choose a model such as Llama or Qwen."
    if keeps_state(model):
        raise ModelError(
            f"Models of type {kind} keep a recurrent state, which a soft prefix cannot start.",
            fix=fix,
        )
    body = model.base_model
    embed = model.get_input_embeddings()
    vocabulary = int(embed.weight.shape[0])
    words = torch.linspace(vocabulary // 7, vocabulary - 1, _PROBE).long()[None]
    words = words.to(embed.weight.device)
    half = _PROBE // 2
    try:
        whole = body(input_ids=words, use_cache=False).last_hidden_state[:, half:]
        states = record(body, inputs_embeds=embed(words[:, :half]))
        behind = body(
            input_ids=words[:, half:], past_key_values=shared(states), use_cache=True
        ).last_hidden_state
        whole_states = all(keys.numel() for keys, _ in states)
    except Exception as error:  # whatever an architecture makes of a call it does not know
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"A {kind} model cannot have a soft prefix: {line[:200]}", fix=fix
        ) from error
    if not whole_states:
        raise ModelError(
            f"A {kind} model cannot have a soft prefix: not every layer keeps keys and values of "
            "its own.",
            fix=fix,
        )
    off = float((whole.float() - behind.float()).norm() / whole.float().norm())
    # in bfloat16 sums of another order differ by some percent after many layers
    if not off < (1e-3 if whole.dtype == torch.float32 else 0.2):
        raise ModelError(
            f"A {kind} model cannot have a soft prefix: behind cached keys and values it computes "
            f"other hidden states ({off:.1%} off) than behind the words they stand for.",
            fix=fix,
        )


def key_shapes(model: Any) -> list[tuple[int, int]]:
    """(heads, head_dim) of the keys of every layer, and of its values, by reading one token.

    Raises:
        ModelError: a layer's values are shaped unlike its keys, or it keeps none.
    """
    token = torch.zeros(1, 1, dtype=torch.long, device=model.get_input_embeddings().weight.device)
    with torch.no_grad():
        states = record(model.base_model, input_ids=token)
    for number, (keys, values) in enumerate(states):
        if keys.shape != values.shape or not keys.numel():
            raise ModelError(
                f"Layer {number} has keys of {tuple(keys.shape[1:])} and values of "
                f"{tuple(values.shape[1:])}; a stored prefix holds one shape for both.",
                fix="Use prompt-tuning, p-tuning or lora.",
            )
    return [(int(keys.shape[1]), int(keys.shape[3])) for keys, _ in states]
