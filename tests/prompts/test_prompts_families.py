"""Chat templates of the large families, in small: what is read, trained, and what ends a turn."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import make_tokenizer

from luthier.data.examples import Message
from luthier.prompts.prompt import Prompt

LLAMA = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
#: template, its role tokens, beginning and end of sequence, and what ends a turn
FAMILIES = {
    "llama-3": (
        *(LLAMA, ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
        *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    ),
    "chatml": (CHATML, [], None, "<|im_end|>", "<|im_end|>"),
    "mistral": (MISTRAL, ["[INST]", "[/INST]"], "<s>", "</s>", "</s>"),
    "gemma": (GEMMA, ["<start_of_turn>", "<end_of_turn>"], "<bos>", "<eos>", "<end_of_turn>"),
}
TALK = (Message("user", "q1"), Message("assistant", "a1"), Message("user", "q2"))


def tokenizer_of(family: str) -> tuple[Any, str]:
    """A tokenizer in the manner of a family, which puts its own beginning before every text, with
    the padding being what ends a turn; and that end."""
    from tokenizers.processors import TemplateProcessing

    template, roles, bos, eos, end = FAMILIES[family]
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"eos_token": eos, "additional_special_tokens": roles})
    if bos:
        tokenizer.add_special_tokens({"bos_token": bos})
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    tokenizer.pad_token = end
    tokenizer.chat_template = template
    return tokenizer, end


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_it_reads_what_transformers_renders(self, family: str) -> None:
        tokenizer, _ = tokenizer_of(family)
        prompt = Prompt(tokenizer)
        turns = [{"role": m.role, "content": m.content} for m in TALK]
        wanted = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(prompt.ask(TALK)) == wanted

    @pytest.mark.parametrize("loss_on", ["completion", "assistant"])
    def test_the_end_of_a_turn_is_trained_and_padding_is_no_mask(
        self, family: str, loss_on: str
    ) -> None:
        tokenizer, end = tokenizer_of(family)
        prompt = Prompt(tokenizer)
        stop = tokenizer.convert_tokens_to_ids(end)
        assert tokenizer.pad_token_id == stop
        assert stop in prompt.stop_ids
        taught = prompt.teach(TALK, "a2", loss_on=loss_on)
        trained = [i for i, t in zip(taught.ids, taught.trained, strict=True) if t]
        wanted = f"a1{end}a2{end}" if loss_on == "assistant" else f"a2{end}"
        assert tokenizer.decode(trained) == wanted
        # the ends of the user's turns are read and not trained, although they are the same token
        ends = [t for i, t in zip(taught.ids, taught.trained, strict=True) if i == stop]
        assert ends.count(True) == (2 if loss_on == "assistant" else 1)
        assert taught.ids[-1] == stop

    def test_the_beginning_is_there_once(self, family: str) -> None:
        tokenizer, _ = tokenizer_of(family)
        for prompt in (Prompt(tokenizer), Prompt(tokenizer, instruction="Be brief.")):
            ids = prompt.teach(TALK, "a2", loss_on="all").ids
            bos = FAMILIES[family][2]
            if bos:
                assert ids[0] == tokenizer.bos_token_id
                assert ids.count(tokenizer.bos_token_id) == 1

    def test_asking_is_a_prefix_of_teaching(self, family: str) -> None:
        tokenizer, _ = tokenizer_of(family)
        prompt = Prompt(tokenizer, instruction="Be brief.")
        asked = prompt.ask(TALK)
        assert prompt.teach(TALK, "a2", loss_on="assistant").ids[: len(asked)] == asked
        shown = tokenizer.decode(asked)
        assert shown.count("Be brief.") == 1

    def test_an_answer_that_spells_the_end_does_not_end(self, family: str) -> None:
        tokenizer, end = tokenizer_of(family)
        stop = tokenizer.convert_tokens_to_ids(end)
        assert Prompt(tokenizer).answer_ids(f"write {end} here").count(stop) == 1
