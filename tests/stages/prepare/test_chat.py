"""Questions as turns of a chat, against transformers' own `apply_chat_template(tokenize=True)`; and templates that are no good."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ghosttrack.common.config.schema import ModelConfig
from ghosttrack.common.errors import ConfigError
from ghosttrack.common.models.prompts import encode_answer, encode_question
from ghosttrack.stages.prepare import chat as chat_module
from ghosttrack.stages.prepare.chat import Chat, chat_of, put
from ghosttrack.stages.prepare.prompts import QuestionLine
from ghosttrack.stages.prepare.rows import Given
from tests.tiny_models import bos_tokenizer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{{ message.content | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
LLAMA_2 = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST] {{ system if loop.first else '' }}{{ message.content }} [/INST]"
    "{% else %} {{ message.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% endif %}{{ bos_token }}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}{{ system }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""What the system says stands in the last turn."""
FALCON = (
    "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}{{ m.role | capitalize }}: "
    "{{ m.content.strip().replace('\n\n', '\n') }}{% endfor %}{% if add_generation_prompt %}{{ '\nAssistant:' }}{% endif %}"
)
THINKING = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m.role == 'system' %}{% set ns.system = m.content %}{% endif %}{% endfor %}"
    "{{ bos_token }}{{ ns.system }}{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}{% elif m.role == 'assistant' %}"
    "<model>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<model><think>\n{% endif %}"
)
PARTS = CHATML.replace(
    "{{ message.content }}", "{% for part in message.content %}{{ part.text }}{% endfor %}"
)
"""Of models that see pictures too: what is said is a list of parts."""
TEMPLATES = {
    "chatml": CHATML, "gemma": GEMMA, "llama 2": LLAMA_2, "mistral": MISTRAL, "falcon": FALCON, "thinking": THINKING, "parts": PARTS,
}  # fmt: skip
SHOTS = (("What is the capital of Spain?", "Madrid"), ("What is the capital of Italy?", "Rome"))


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(bos_tokenizer().backend_tokenizer.to_str())
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    found = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>")
    found.chat_template = template
    return found


def question(
    text: str = "What is the capital of France?", subject: str = "France", **more: object
) -> QuestionLine:
    return QuestionLine(
        "q", "capital", subject, "", f"Q: {text}\nA:", "Paris", ("Paris",), text, SHOTS, **more
    )  # type: ignore[arg-type]


def model_of(**settings: object) -> ModelConfig:
    return ModelConfig(base_model="m", d_model=1, n_layers=1, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("shots", [SHOTS, ()])
def test_a_question_is_what_the_template_makes_of_it(name: str, system: str | None, shots: tuple) -> None:
    if name == "gemma" and system:
        return
    tokenizer = tokenizer_with(TEMPLATES[name])
    chat = chat_of(tokenizer, model_of(system=system))
    assert chat is not None
    asked = chat.put(replace(question(), shots=shots)).record()
    turns = [{"role": "system", "content": system}] if system else []
    for said, answer in shots:
        turns += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    turns += [{"role": "user", "content": "What is the capital of France?"}]
    if name == "parts":
        turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    prompt = encode_question(tokenizer, asked)
    assert prompt.tokens == expected
    assert prompt.tokens.count(tokenizer.bos_token_id) == ("bos_token" in TEMPLATES[name])  # never twice
    assert prompt.subject is not None
    assert tokenizer.decode(prompt.tokens[: prompt.subject + 1]).endswith("the capital of France")
    assert asked["query"] == "What is the capital of France?"


@pytest.mark.parametrize("name", sorted(TEMPLATES.keys() - {"parts", "thinking"}))
def test_a_given_answer_stands_where_the_template_puts_it(name: str) -> None:
    tokenizer = tokenizer_with(TEMPLATES[name])
    asked = Chat(tokenizer, None).put(question(given=Given(response="Paris")))
    turns = [
        turn for said, answer in (*SHOTS, ("What is the capital of France?", "Paris"))
        for turn in ({"role": "user", "content": said}, {"role": "assistant", "content": answer})
    ]  # fmt: skip
    before, answer = encode_answer(tokenizer, asked.prompt, "Paris", special=False)
    expected = tokenizer.apply_chat_template(turns, return_dict=False)
    assert expected[: len(before) + len(answer)] == before + answer
    assert tokenizer.decode(answer) == "Paris"


def test_line_breaks_are_those_that_the_template_makes() -> None:
    tokenizer = tokenizer_with(FALCON)
    shots = (("Which?\n\nA. Rome\n\nB. Bonn", "A"),)
    asked = (
        Chat(tokenizer, None)
        .put(replace(question("Which?\n\nA. Paris\n\nB. Lyon", "Paris"), shots=shots))
        .record()
    )
    turns = [
        {"role": role, "content": said}
        for role, said in (("user", shots[0][0]), ("assistant", "A"), ("user", asked["question"]))
    ]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert encode_question(tokenizer, asked).tokens == expected
    assert asked["query"] == "Which?\nA. Paris\nB. Lyon"


def test_a_template_of_one_turn_takes_questions_without_worked_examples() -> None:
    alone = "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}Question: {{ messages[0].content }}\nAnswer:"
    chat = Chat(tokenizer_with(alone), None)
    assert (
        chat.put(replace(question(), shots=())).prompt == "Question: What is the capital of France?\nAnswer:"
    )
    with pytest.raises(ConfigError, match=r"takes no earlier turns.* set data\.shots: 0"):
        chat.put(question())


@pytest.mark.parametrize("templates", [{"tools": "no", "default": CHATML}, {"rag": CHATML}])
def test_of_templates_with_names_the_default_is_taken(templates: dict[str, str]) -> None:
    tokenizer = tokenizer_with(None)
    tokenizer.chat_template = templates
    chat = chat_of(tokenizer, model_of())
    assert chat is not None
    assert chat.put(question()).closing == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_subject_is_not_looked_for_in_the_words_of_the_template() -> None:
    tokenizer = tokenizer_with(CHATML)
    asked = Chat(tokenizer, None).put(question("Who is an assistant of Bell?", "assistant"))
    prompt = encode_question(tokenizer, asked.record())
    assert prompt.subject is not None
    assert tokenizer.decode(prompt.tokens[: prompt.subject + 1]).endswith("Who is an assistant")


def test_sentences_to_complete_are_asked_as_they_stand() -> None:
    sentence = QuestionLine("s", "capital", "France", "", "The capital of France is", "Paris", ("Paris",))
    model = model_of()
    found = put(chat_of(tokenizer_with(CHATML), model), [question(), sentence], model)
    assert [one.chat for one in found] == [True, False]
    assert found[1] == sentence
    assert put(chat_of(tokenizer_with(CHATML), model_of(chat="none")), [question()], model) == [question()]
    assert put(chat_of(tokenizer_with(None), model), [question()], model) == [question()]


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        ("{{ oops.oops.oops }}", {}, r"chat template fails: .*undefined.*model\.chat: none"),
        ("{% for m in messages %}", {}, r"chat template fails: .*correct the template"),
        ("{{ messages[0].content }}", {}, r"drops the question"),
        ("{{ messages[-1].content }}", {}, r"drops 'What is the capital of Spain\?' of a worked example; set data\.shots: 0"),
        (CHATML.replace("message.content ", "message.content | upper "), {}, r"drops the question"),
        (CHATML.replace("message.content ", "message.content.replace('France', 'Gaul') "), {}, r"does not give back the question"),
        (GEMMA, {"system": "Be brief."}, r"System role not supported; it takes no system prompt: leave model\.system out"),
        (CHATML.replace("in messages", "in messages if message.role != 'system'"), {"system": "Be brief."},
         r"drops the system prompt 'Be brief\.'"),
        (None, {"system": "Be brief."}, r"the model's tokenizer has no chat template; name a template file with model\.chat"),
        (CHATML, {"system": "Be brief.", "chat": "none"}, r"model\.system .* model\.chat = none"),
        (CHATML, {"chat": "/nowhere/at.jinja"}, r"model\.chat = '/nowhere/at\.jinja': No such file.*; give auto, none or the path"),
    ],
)  # fmt: skip
def test_a_template_that_is_no_good_is_one_line_with_the_mend(
    template: str | None, settings: dict, words: str
) -> None:
    model = model_of(**settings)
    with pytest.raises(ConfigError, match=words) as error:
        put(chat_of(tokenizer_with(template), model), [question()], model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("settings", [{"system": "Be brief."}, {"chat": "template"}])
def test_a_chat_about_nothing_that_is_a_question_is_refused(tmp_path: Path, settings: dict) -> None:
    (tmp_path / "template").write_text(CHATML)
    settings = {key: str(tmp_path / value) if key == "chat" else value for key, value in settings.items()}
    sentence = QuestionLine("s", "capital", "France", "", "The capital of France is", "Paris", ("Paris",))
    model = model_of(**settings)
    with pytest.raises(ConfigError, match=r"data\.questions: factbook-questions"):
        put(chat_of(tokenizer_with(CHATML), model), [sentence], model)


def test_a_template_that_says_the_day_says_the_same_day_for_ever(tmp_path: Path, monkeypatch) -> None:
    clock = iter(datetime(2026, 11, day) for day in range(1, 9))
    monkeypatch.setattr(chat_module, "datetime", type("Clock", (), {"now": lambda: next(clock)}))
    (tmp_path / "template").write_text(
        "{{ strftime_now('%d %b') }} or {{ strftime_now(\"it's %d\") }}\n" + CHATML
    )
    chat = chat_of(tokenizer_with(None), model_of(chat=str(tmp_path / "template")))
    assert [chat.put(question()).prefix[:16] for _ in range(2)] == 2 * ["01 Nov or it's 0"]


@pytest.mark.parametrize(
    ("template", "opens"),
    [
        (CHATML, True),
        (LLAMA_2, True),
        (CHATML.replace("if add_generation_prompt", "if true"), True),
        (CHATML.partition("{% if add")[0], False),
    ],
)
def test_a_template_without_a_generation_prompt_is_known(template: str, opens: bool) -> None:
    assert Chat(tokenizer_with(template), None).opens == opens


def test_an_instruction_leads_to_the_question() -> None:
    chat = Chat(tokenizer_with(CHATML), None)
    assert chat.prefix("Here is a fact.", []) == "<|im_start|>user\nHere is a fact.\n"


def test_a_template_that_fails_without_a_system_prompt_gets_an_empty_one_or_asks_for_one() -> None:
    needs = "{% if messages[0].role != 'system' %}{{ raise_exception('a system prompt, please') }}{% endif %}"
    chat = chat_of(tokenizer_with(needs + CHATML), model_of())
    assert chat is not None
    asked = chat.put(replace(question(), shots=()))
    assert asked.prefix == "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
    picky = (
        needs + "{% if not messages[0].content %}{{ raise_exception('say something') }}{% endif %}" + CHATML
    )
    chat = chat_of(tokenizer_with(picky), model_of())
    assert chat is not None
    with pytest.raises(ConfigError, match=r"a system prompt, please; it needs .* with model\.system"):
        chat.put(question())


@pytest.mark.parametrize(
    "program",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**10 }}",
        "{{ 9**(9**9) }}",
    ],
)
def test_a_template_without_an_end_is_refused_and_ours_go_on(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(chat_module, "MOST_SECONDS", 1)
    with pytest.raises(
        ConfigError, match="takes more than 1 s or 512 MiB for a question; correct the template"
    ):
        chat_of(tokenizer_with(program + CHATML), model_of())
