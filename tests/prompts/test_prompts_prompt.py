"""The one place where messages become ids and a mask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHAT_TEMPLATE, make_tokenizer

from luthier.data.examples import Conversation, Message
from luthier.errors import ModelError
from luthier.prompts.prompt import Prompt, Shot

TOKENIZER = make_tokenizer()
START, END = "<|im_start|>", "<|im_end|>"
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}" + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SILENT_ABOUT_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# text as people write it, with the things that break prompts strewn in
nasty = st.sampled_from([START, END, "<unk>", "Zq7x0x7qZ", "assistant\n", "{{ x }}", "\ud800", " "])
text = st.lists(st.one_of(st.text(max_size=12), nasty), max_size=5).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = [Message("system", draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [Message("user", draw(text)), Message("assistant", draw(text))]
    return (*turns, Message("user", draw(text)))


shots = st.lists(st.builds(Shot, text, text), max_size=2)


def tokenizer_with(template: str | None) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def asked(content: str) -> Conversation:
    return (Message("user", content),)


def spans(prompt: Prompt, conversation: Conversation, answer: str) -> list[str]:
    """The text of each run of trained ids, all turns of the assistant trained."""
    taught = prompt.teach(conversation, answer, loss_on="assistant")
    found: list[list[int]] = []
    before = False
    for token, trained in zip(taught.ids, taught.trained, strict=True):
        if trained and not before:
            found.append([])
        if trained:
            found[-1].append(token)
        before = trained
    return [prompt.tokenizer.decode(ids) for ids in found]


def seen(content: str) -> str:
    """What a tokenizer can be given of a text: half a character becomes U+FFFD."""
    return "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in content)


class TestTeaching:
    @settings(max_examples=150, deadline=None)
    @given(conversations(), text, text, shots, st.sampled_from([CHAT_TEMPLATE, NO_SYSTEM, None]))
    def test_asking_is_a_prefix_of_teaching(
        self,
        conversation: Conversation,
        answer: str,
        instruction: str,
        shown: list[Shot],
        template: str | None,
    ) -> None:
        prompt = Prompt(tokenizer_with(template), instruction=instruction, shots=shown)
        taught = prompt.teach(conversation, answer, loss_on="completion")
        question, written = prompt.ask(conversation), prompt.answer_ids(answer)
        assert taught.ids == question + written
        assert len(taught.trained) == len(taught.ids)
        assert taught.trained[len(question) :] == [True] * len(written)
        assert not taught.trained[len(question) - 1]  # what the template puts before an answer
        assert prompt.tokenizer.decode(written) == seen(answer.strip()) + END
        assert taught.trained_tokens == sum(taught.trained)

    @settings(max_examples=100, deadline=None)
    @given(conversations(), text, shots)
    def test_own_turns_are_trained_and_shots_never(
        self, conversation: Conversation, answer: str, shown: list[Shot]
    ) -> None:
        prompt = Prompt(TOKENIZER, shots=shown)
        own = [m.content.strip() for m in conversation if m.role == "assistant"] + [answer.strip()]
        # an empty turn earlier in a conversation teaches nothing
        wanted = [seen(t) + END for t in own[:-1] if t] + [seen(own[-1]) + END]
        assert spans(prompt, conversation, answer) == wanted

    def test_every_turn_ends_with_a_trained_stop_token_although_it_is_the_padding(self) -> None:
        assert TOKENIZER.pad_token_id == TOKENIZER.eos_token_id
        prompt = Prompt(TOKENIZER, instruction="Be brief.", shots=[Shot("a", "shown")])
        conversation = (Message("user", "q1"), Message("assistant", "a1"), Message("user", "q2"))
        assert spans(prompt, conversation, " a2 \n") == [f"a1{END}", f"a2{END}"]
        taught = prompt.teach(conversation, "a2", loss_on="completion")
        assert taught.ids[-1] == TOKENIZER.eos_token_id
        assert taught.trained[-1]

    def test_loss_on_all_trains_everything(self) -> None:
        prompt = Prompt(TOKENIZER, instruction="Be brief.")
        taught = prompt.teach(asked("q"), "a", loss_on="all")
        assert taught.trained == [True] * len(taught.ids)
        assert taught.ids == prompt.teach(asked("q"), "a", loss_on="completion").ids

    def test_an_empty_answer_teaches_to_stop(self) -> None:
        assert spans(Prompt(TOKENIZER), asked("q"), "  ") == [END]


class TestRoleTokensInText:
    @settings(max_examples=150, deadline=None)
    @given(text, text)
    def test_they_stay_text(self, content: str, instruction: str) -> None:
        prompt = Prompt(TOKENIZER, instruction=instruction)
        ids = prompt.ask(asked(content))
        specials = [i for i in ids if i in TOKENIZER.all_special_ids]
        # system (where there is one), user and the opening of the answer
        turns = 3 if instruction else 2
        assert specials.count(TOKENIZER.convert_tokens_to_ids(START)) == turns
        assert specials.count(TOKENIZER.convert_tokens_to_ids(END)) == turns - 1
        assert len(specials) == 2 * turns - 1
        system = f"{START}system\n{instruction}{END}\n" if instruction else ""
        whole = f"{system}{START}user\n{content}{END}\n{START}assistant\n"
        assert TOKENIZER.decode(ids) == seen(whole)

    def test_tokens_that_are_added_but_not_flagged_special_stay_text_too(self) -> None:
        tokenizer = make_tokenizer()
        tokenizer.add_tokens(["<tool>"])  # not special
        (tool,) = tokenizer.convert_tokens_to_ids(["<tool>"])
        prompt = Prompt(tokenizer)
        for ids in (prompt.ask(asked("a <tool> b<tool>")), prompt.answer_ids("a <tool> b<tool>")):
            assert tool not in ids
            assert "a <tool> b<tool>" in tokenizer.decode(ids)

    def test_they_are_cut_into_tokens_like_any_text(self) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|"]
        inner = Tokenizer(models.BPE({c: i for i, c in enumerate(letters)}, [("<", "|")]))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token=START, eos_token=END, chat_template=CHAT_TEMPLATE
        )
        ids = Prompt(tokenizer).answer_ids(END)
        assert tokenizer.convert_ids_to_tokens(ids) == ["<|", *"im_end|>", END]

    def test_an_answer_that_spells_a_stop_token_does_not_stop(self) -> None:
        prompt = Prompt(TOKENIZER)
        ids = prompt.answer_ids(f"write {END} to end")
        assert ids.count(TOKENIZER.eos_token_id) == 1
        assert ids[-1] == TOKENIZER.eos_token_id

    def test_a_text_that_spells_a_place_marker_is_kept(self) -> None:
        prompt = Prompt(TOKENIZER)
        conversation = (
            Message("user", "Zq7x1x7qZ"),
            Message("assistant", "Zq7x0x7qZ"),
            Message("user", "and Zq7x2x7qZ"),
        )
        shown = TOKENIZER.decode(prompt.ask(conversation))
        assert "user\nZq7x1x7qZ<" in shown
        assert "assistant\nZq7x0x7qZ<" in shown
        assert "user\nand Zq7x2x7qZ<" in shown


class TestSystem:
    def test_a_system_message_replaces_the_instruction(self) -> None:
        prompt = Prompt(TOKENIZER, instruction="The task.")
        other = (Message("system", "Another."), *asked("q"))
        assert "The task." in TOKENIZER.decode(prompt.ask(asked("q")))
        shown = TOKENIZER.decode(prompt.ask(other))
        assert "Another." in shown
        assert "The task." not in shown
        silent = TOKENIZER.decode(prompt.ask((Message("system", ""), *asked("q"))))
        assert "system" not in silent

    @pytest.mark.parametrize("template", [NO_SYSTEM, SILENT_ABOUT_SYSTEM])
    def test_a_template_without_system_turns_gets_it_in_the_first_question(
        self, template: str
    ) -> None:
        tokenizer = tokenizer_with(template)
        prompt = Prompt(tokenizer, instruction="The task.", shots=[Shot("s", "t")])
        shown = tokenizer.decode(prompt.ask(asked("q")))
        assert shown.startswith(f"{START}user\nThe task.\n\ns{END}")
        assert shown.count("The task.") == 1
        assert any("takes no system turn" in note for note in prompt.notes)
        assert spans(prompt, asked("q"), "a") == [f"a{END}"]

    def test_it_also_folds_a_system_message_that_came_without_an_instruction(self) -> None:
        prompt = Prompt(tokenizer_with(NO_SYSTEM))
        assert prompt.notes == []
        shown = TOKENIZER.decode(prompt.ask((Message("system", "Be kind."), *asked("q"))))
        assert shown.startswith(f"{START}user\nBe kind.\n\nq{END}")

    def test_a_template_that_refuses_the_turns_says_which(self) -> None:
        template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(ModelError, match=r"refuses the turns user.*roles must alternate"):
            Prompt(tokenizer_with(template)).ask(asked("q"))


class TestBeginningOfSequence:
    def with_bos(self, template: str | None) -> Any:
        """A tokenizer that puts <|im_start|> before every text, as Llama's and Gemma's do."""
        from tokenizers.processors import TemplateProcessing

        tokenizer = tokenizer_with(template)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{START} $A", special_tokens=[(START, tokenizer.bos_token_id)]
        )
        assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        return tokenizer

    def test_a_base_model_gets_it_once(self) -> None:
        tokenizer = self.with_bos(None)
        prompt = Prompt(tokenizer, instruction=f"Say {END}.", shots=[Shot("a", "b")])
        for ids in (
            prompt.ask(asked("q")),
            prompt.teach(asked("q"), "a", loss_on="completion").ids,
            Prompt(tokenizer).ask((Message("system", f"{START}x"), *asked("q"))),
        ):
            assert ids[0] == tokenizer.bos_token_id
            assert ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.bos_token_id not in prompt.answer_ids("a")

    def test_a_base_model_whose_tokenizer_adds_none_gets_none(self, tiny_base_model: Any) -> None:
        from luthier.models.loading import load_tokenizer

        prompt = Prompt(load_tokenizer(str(tiny_base_model)))
        assert not prompt.is_chat
        assert prompt.tokenizer.bos_token_id not in prompt.ask(asked("q"))
        assert any("base model" in note for note in prompt.notes)

    def test_a_template_that_writes_its_own_is_not_given_another(self) -> None:
        template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        tokenizer = self.with_bos(template)
        ids = Prompt(tokenizer).ask(asked("q"))
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id

    def test_a_base_model_stops_at_its_end_token_or_at_the_next_heading(self) -> None:
        prompt = Prompt(tokenizer_with(None), shots=[Shot("a", "b")])
        assert prompt.closing_ids == [TOKENIZER.eos_token_id]
        (stop,) = prompt.stop_strings
        # what follows an example in the prompt is what the model would write on
        assert f"b\n{stop}Input" in TOKENIZER.decode(prompt.ask(asked("q")))
        assert Prompt(TOKENIZER).stop_strings == ()


class TestStopping:
    def test_what_closes_a_turn_may_be_more_than_one_token(self) -> None:
        template = (
            "{% for m in messages %}{{ m.role }}:{{ m.content }} ;<|im_start|>\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}"
        )
        prompt = Prompt(tokenizer_with(template), stop_ids=[7])
        assert TOKENIZER.decode(prompt.closing_ids) == f" ;{START}"
        assert prompt.stop_ids == {7, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id}
        conversation = (Message("user", "q"), Message("assistant", "a"), Message("user", "r"))
        assert spans(prompt, conversation, "b") == [f"a ;{START}", f"b ;{START}"]

    def test_a_template_that_ends_no_turn_gets_the_end_token(self) -> None:
        template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        assert Prompt(tokenizer_with(template)).closing_ids == [TOKENIZER.eos_token_id]

    def test_a_tokenizer_without_any_end_is_refused(self) -> None:
        tokenizer = tokenizer_with("{% for m in messages %}{{ m.content }}{% endfor %}")
        tokenizer.eos_token = None
        with pytest.raises(ModelError, match="no end-of-sequence token"):
            _ = Prompt(tokenizer).closing_ids

    def test_reading_leaves_out_special_tokens(self) -> None:
        prompt = Prompt(TOKENIZER)
        assert prompt.read(prompt.answer_ids("  LOC ")) == "LOC"


class TestIdentity:
    def test_it_changes_with_everything_that_changes_ids(self) -> None:
        prompts = [
            Prompt(TOKENIZER),
            Prompt(TOKENIZER, instruction="a"),
            Prompt(TOKENIZER, instruction="b"),
            Prompt(TOKENIZER, shots=[Shot("a", "b")]),
            Prompt(TOKENIZER, shots=[Shot("a", "b"), Shot("c", "d")]),
            Prompt(tokenizer_with(NO_SYSTEM)),
            Prompt(tokenizer_with(None)),
        ]
        assert len({prompt.hash for prompt in prompts}) == len(prompts)
        assert Prompt(make_tokenizer(), instruction="a").hash == prompts[1].hash
        assert Prompt(TOKENIZER).with_shots([Shot("a", "b")]).hash == prompts[3].hash

    def test_it_comes_back_from_what_was_stored(self) -> None:
        prompt = Prompt(TOKENIZER, instruction="Be brief.", shots=[Shot("é", "\n")], stop_ids=[3])
        again = Prompt.from_dict(prompt.to_dict(), make_tokenizer(), stop_ids=[3])
        assert again.ask(asked("q")) == prompt.ask(asked("q"))
        assert again.stop_ids == prompt.stop_ids

    def test_a_changed_template_is_refused(self) -> None:
        stored = Prompt(TOKENIZER, instruction="Be brief.").to_dict()
        changed = tokenizer_with(CHAT_TEMPLATE.replace("assistant\n", "assistant: "))
        with pytest.raises(ModelError, match="chat template is not the one"):
            Prompt.from_dict(stored, changed)

    def test_a_changed_tokenizer_is_refused(self) -> None:
        stored = Prompt(TOKENIZER).to_dict()
        changed = make_tokenizer()
        changed.add_tokens(["user\n"])
        with pytest.raises(ModelError, match="tokenizer"):
            Prompt.from_dict(stored, changed)

    def test_a_stored_prompt_that_is_not_whole_is_refused(self) -> None:
        with pytest.raises(ModelError, match=r"not whole.*'shots'"):
            Prompt.from_dict({"instruction": "x", "hash": "y"}, TOKENIZER)

    def test_a_template_that_writes_the_date_stays_the_same_every_day(self) -> None:
        template = "{% set day = strftime_now( '%d %B %Y') %}{{ day }} " + CHAT_TEMPLATE
        tokenizer = tokenizer_with(template)
        plain = tokenizer.apply_chat_template(
            [{"role": "user", "content": "q"}], tokenize=False, add_generation_prompt=True
        )
        prompt = Prompt(tokenizer)
        shown = tokenizer.decode(prompt.ask(asked("q")))
        assert shown.startswith("01 January 2025 ")
        assert shown.split(START)[1:] == plain.split(START)[1:]
        assert any("today's date" in note for note in prompt.notes)

    def test_named_templates_use_the_default_one(self) -> None:
        tokenizer = make_tokenizer()
        tokenizer.chat_template = {"tools": "no", "default": CHAT_TEMPLATE}
        assert Prompt(tokenizer).ask(asked("q")) == Prompt(TOKENIZER).ask(asked("q"))


def test_plain_texts_give_what_transformers_gives(embedded: Any) -> None:
    tokenizer = embedded.tokenizer
    for instruction, conversation in (
        ("", asked("Why is the sky blue?")),
        ("Answer in one word.", asked("Where is Paris?\n\nThink first.")),
        (
            "Be kind.",
            (Message("user", "Hi"), Message("assistant", "Hello there."), Message("user", "Bye")),
        ),
    ):
        turns = [{"role": m.role, "content": m.content} for m in conversation]
        system = [{"role": "system", "content": instruction}] if instruction else []
        wanted = tokenizer.apply_chat_template(
            [*system, *turns], tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert Prompt(tokenizer, instruction=instruction).ask(conversation) == wanted
